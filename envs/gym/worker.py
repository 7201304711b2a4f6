"""Main function of worker processes, which run environments at the request of their parent."""

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
    """Answer requests of the parent until it sends None or exits."""
    _isolate(connection)
    warnings.simplefilter("ignore")  # each worker would print them into the progress bar
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    torch.set_num_threads(1)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has exited
        try:
            worker_envs = WorkerEnvs(cloudpickle.loads(env_config), worker)
        except BaseException as error:  # importing user code may raise anything
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
    """Answer one request with its kind, slot and content."""
    try:
        if question == "attach":
            arguments = (receive(connection), *arguments)
        return "done", -1, QUESTIONS[question](worker_envs, *arguments)
    except Failure as failure:
        return "failed", failure.slot, str(failure)
    except UsageError as error:
        return "refused", -1, str(error)
    except BaseException as error:  # environments may also call sys.exit
        return "failed", -1, raised(question, error)


def _isolate(connection: Connection) -> None:
    """Create a new process group that ends with the parent, and redirect stdout to stderr.

    Processes started by environments belong to the group and end with it. Output of environments,
    from Python or C, must not mix with the output of a command.
    """
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):  # handled by the parent
        signal.signal(number, signal.SIG_IGN)  # discards a pending signal
        signal.signal(number, lambda *_: None)  # unlike SIG_IGN, not inherited by new programs
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with suppress(OSError):  # stderr is closed
        os.dup2(2, 1)
    sys.stdout = sys.stderr
    # Spawned processes inherit "spawn"; environments expect the default start method.
    multiprocessing.set_start_method(None, force=True)
    # Otherwise a forked child that outlives its worker keeps the pipe open, and the parent would
    # not notice that the worker died.
    os.register_at_fork(after_in_child=connection.close)
    _end_with_parent()


def _end_with_parent() -> None:
    """Kill the process group when the parent exits, even during a step."""
    parent = parent_process()
    if parent is None:
        return
    if hasattr(fcntl, "F_SETSIG"):  # Linux sends the signal even if the interpreter is blocked
        pipe: Any = parent.sentinel
        fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
        if not wait([pipe], 0):  # the parent is still running
            return

    def watch() -> None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
