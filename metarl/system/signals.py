"""Signals that stop a command; writes in progress are finished first."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C; a scheduler's termination request; a closed terminal; Slurm's `--signal=USR1@60`.
STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)

IGNORED = 3.0  # seconds after a signal during which further ones are ignored


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt on each signal of `STOPPING`; ignore repeats for `IGNORED` seconds.

    A signal that is already ignored, such as SIGHUP under `nohup`, stays ignored.
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
    """Defer the signals of `STOPPING` until the block has ended."""
    if not _in_main_thread():
        yield
        return
    received: list[int] = []
    before = {s: signal.signal(s, lambda n, _: received.append(n)) for s in STOPPING if _acts(s)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def _stop(number: int, frame: FrameType | None) -> None:
    # Ignore a second Ctrl-C for a while, so that it doesn't interrupt the save that the first one
    # triggered. Later it counts again, because Python swallows interrupts in destructors.
    start = time.monotonic()

    def is_stopping(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - start > IGNORED:
            raise KeyboardInterrupt

    for each in STOPPING:
        if signal.getsignal(each) is _stop:
            signal.signal(each, is_stopping)
    raise KeyboardInterrupt


def _acts(number: int) -> bool:
    # None: a handler that was not installed from Python and can't be restored.
    return signal.getsignal(number) not in (signal.SIG_IGN, None)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
