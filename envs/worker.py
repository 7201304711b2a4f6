"""What a worker process does: answers what its parent asks of its environments."""

from __future__ import annotations

import signal
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

from envs.errors import UsageError
from envs.liveness import draws, explore
from envs.stage import Failure, Stage, raised

QUESTIONS: dict[str, Callable[..., Any]] = {
    "explore": explore,
    "draws": draws,
    "attach": Stage.attach,
    "reset": Stage.reset,
    "again": Stage.again,
    "step": Stage.step,
    "frame": Stage.frame,
}


def main(connection: Connection, recipe: bytes, worker: int) -> None:
    """Answer the parent's questions until it hangs up."""
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):  # Ctrl-C and the like are the parent's to handle
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    warnings.simplefilter("ignore")  # would be printed into the progress bar, once a worker
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    torch.set_num_threads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        stage = Stage(cloudpickle.loads(recipe), worker)
    except Exception as error:  # whatever a user's module raises when it is imported
        connection.send(("failed", -1, raised("starting", error)))
        return
    connection.send(("done", -1, "ready"))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        while True:
            question, arguments = connection.recv()
            connection.send(_answer(stage, question, arguments))


def _answer(stage: Stage, question: str, arguments: tuple[Any, ...]) -> tuple[str, int, Any]:
    """Kind, slot and content of the answer."""
    try:
        return "done", -1, QUESTIONS[question](stage, *arguments)
    except Failure as failure:
        return "failed", failure.slot, str(failure)
    except UsageError as error:
        return "refused", -1, str(error)
    except Exception as error:
        return "failed", -1, raised(question, error)


def _die_with_parent() -> None:
    """End this process with its parent, even in the middle of a step."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        signal.raise_signal(signal.SIGKILL)
