"""JSON on stdout and nothing else, whatever environments print meanwhile."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

# stdout and a copy of its descriptor, while both point to stderr.
_kept: ContextVar[tuple[TextIO, int] | None] = ContextVar("stdout", default=None)


@contextmanager
def only_json(wanted: bool) -> Iterator[None]:
    """Send to stderr whatever Python, C libraries or other processes print to stdout meanwhile.

    `print_json` alone still writes to stdout.
    """
    if not wanted:
        yield
        return
    stdout, copy = sys.stdout, os.dup(1)
    token = _kept.set((stdout, copy))
    _point(sys.stderr, 2)
    try:
        yield
    finally:
        _point(stdout, copy)
        os.close(copy)
        _kept.reset(token)


@contextmanager
def real_stdout() -> Iterator[None]:
    """Within `only_json`: stdout as it was, for processes that print JSON themselves."""
    kept = _kept.get()
    if kept is None:
        yield
        return
    _point(*kept)
    try:
        yield
    finally:
        _point(sys.stderr, 2)


def print_json(record: Any) -> None:
    """One line of JSON on stdout."""
    with real_stdout():
        print(json.dumps(record), flush=True)


def _point(stream: TextIO, descriptor: int) -> None:
    """Have everything printed from now on go there."""
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)  # what C libraries hold back belongs to where it was printed
    os.dup2(descriptor, 1)
    sys.stdout = stream
