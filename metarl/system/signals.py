"""Signals that stop a command: what is being written is finished first, and only then it stops."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C; an end asked for by a scheduler; a terminal that is gone; Slurm's `--signal=USR1@60`.
STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)

IGNORED = 3.0  # s after a signal in which further ones are the same


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Each signal of `STOPPING` raises KeyboardInterrupt; those that follow at once are ignored.

    A signal that is ignored, as SIGHUP under `nohup`, stays ignored.
    """
    if not _in_main_thread():
        yield
        return
    before = {s: signal.signal(s, _stop) for s in STOPPING if _acts(s)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def finish_first() -> Iterator[None]:
    """A signal of `STOPPING` acts only when the block has ended."""
    if not _in_main_thread():
        yield
        return
    came: list[int] = []
    before = {s: signal.signal(s, lambda n, _: came.append(n)) for s in STOPPING if _acts(s)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _stop(number: int, frame: FrameType | None) -> None:
    # A second Ctrl-C would otherwise interrupt the saving that the first one asked for. After a
    # while it counts again: Python swallows an interrupt that comes in a destructor.
    first = time.monotonic()

    def is_stopping(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - first > IGNORED:
            raise KeyboardInterrupt

    for each in STOPPING:
        if signal.getsignal(each) is _stop:
            signal.signal(each, is_stopping)
    raise KeyboardInterrupt


def _acts(number: int) -> bool:
    # None: a handler that was not installed from Python, which could not be put back.
    return signal.getsignal(number) not in (signal.SIG_IGN, None)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
