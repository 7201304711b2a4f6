"""Runs a function in a forked process, isolated from earlier and later environments."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import cloudpickle

from metarl.envs.core.errors import UsageError
from metarl.envs.gym.worker_envs import Failure

T = TypeVar("T")
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def alone(what: Callable[[], T]) -> T:
    """Run `what` in a fork of this process, or in this process where fork isn't available.

    Raises:
        UsageError: raised by `what`.
        Failure: `what` raised another exception, or the process ended without a result.
    """
    if not hasattr(os, "fork"):
        return what()
    here = os.getpid()
    receive, send = multiprocessing.Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        _answer(what, send, here)
    send.close()
    try:
        kind, content = cloudpickle.loads(receive.recv_bytes())
    except EOFError:
        kind, content = "died", ""
    _, status = os.waitpid(pid, 0)
    receive.close()
    if kind == "died":
        code = os.waitstatus_to_exitcode(status)
        raise Failure(-1, f"the environment ended the process (exit code {code})")
    if kind == "refused":
        raise UsageError(content)
    if kind == "failed":
        raise Failure(-1, content)
    result: T = content
    return result


def _answer(what: Callable[[], Any], send: Any, parent: int) -> None:
    """Run in the forked process: send the result and exit."""
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
            if os.getppid() != parent:  # the parent exited before prctl
                return
        answer: tuple[str, Any]
        try:
            answer = "done", what()
        except UsageError as error:
            answer = "refused", str(error)
        except Exception as error:
            answer = "failed", str(error)
        for child in multiprocessing.active_children():
            child.kill()
        send.send_bytes(cloudpickle.dumps(answer))
    finally:
        os._exit(0)
