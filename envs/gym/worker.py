"""What a worker process does: answers what its parent asks of its environments."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

import cloudpickle
import gymnasium
import torch

from metarl.envs.core.errors import UsageError
from metarl.envs.gym.checks.parameter_check import draws, explore
from metarl.envs.gym.shared_memory import receive
from metarl.envs.gym.worker_envs import Failure, WorkerEnvs, raised

QUESTIONS: dict[str, Callable[..., Any]] = {
    "explore": explore,
    "draws": draws,
    "attach": WorkerEnvs.attach,
    "reset": WorkerEnvs.reset,
    "restart": WorkerEnvs.restart,
    "step": WorkerEnvs.step,
    "frame": WorkerEnvs.frame,
}


def main(connection: Connection, env_config: bytes, worker: int) -> None:
    """Answer the parent's questions until it asks for the end, or is gone."""
    _set_apart(connection)
    warnings.simplefilter("ignore")  # would be printed into the progress bar, once a worker
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    torch.set_num_threads(1)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        try:
            worker_envs = WorkerEnvs(cloudpickle.loads(env_config), worker)
        except BaseException as error:  # whatever a user's module raises when it is imported
            connection.send(("failed", -1, raised("starting", error)))
            return
        connection.send(("done", -1, "ready"))
        while question := connection.recv():
            connection.send(_answer(worker_envs, connection, *question))
        worker_envs.close()
        connection.send(None)


def _answer(
    worker_envs: WorkerEnvs, connection: Connection, question: str, arguments: tuple[Any, ...]
) -> tuple[str, int, Any]:
    """Kind, slot and content of the answer."""
    try:
        if question == "attach":
            arguments = (receive(connection), *arguments)
        return "done", -1, QUESTIONS[question](worker_envs, *arguments)
    except Failure as failure:
        return "failed", failure.slot, str(failure)
    except UsageError as error:
        return "refused", -1, str(error)
    except BaseException as error:  # an environment may call sys.exit, too
        return "failed", -1, raised(question, error)


def _set_apart(connection: Connection) -> None:
    """Have a process group of one's own, which ends with the parent, and print to stderr.

    Environments may start processes, which belong to the group and end with it. What they print,
    in Python or in C, must not get into the output of a command.
    """
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):  # the parent's to handle
        signal.signal(number, signal.SIG_IGN)  # forgets one that came before now
        signal.signal(number, lambda *_: None)  # programs that are started have the default again
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with suppress(OSError):  # no stderr either
        os.dup2(2, 1)
    sys.stdout = sys.stderr
    # A process that was spawned spawns, too; environments expect the system's own way.
    multiprocessing.set_start_method(None, force=True)
    # Else the parent would not see the end of a worker whose forked children live on.
    os.register_at_fork(after_in_child=connection.close)
    _end_with_parent()


def _end_with_parent() -> None:
    """End the process group with the parent, even in the middle of a step."""
    parent = parent_process()
    if parent is None:
        return
    if hasattr(fcntl, "F_SETSIG"):  # by Linux itself: the interpreter of a hung worker may not run
        pipe: Any = parent.sentinel
        fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
        if not wait([pipe], 0):  # it is there still
            return

    def watch() -> None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
