"""Print only JSON on stdout, whatever environments print."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

# The original stdout and a copy of its descriptor, while output is redirected to stderr.
_kept: ContextVar[tuple[TextIO, int] | None] = ContextVar("stdout", default=None)


@contextmanager
def only_json(wanted: bool) -> Iterator[None]:
    """Redirect stdout of Python, C libraries and subprocesses to stderr.

    Only `print_json` still writes to stdout.
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
    """Restore stdout within `only_json`, for subprocesses that print JSON themselves."""
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
    """Print one line of JSON on stdout."""
    with real_stdout():
        print(json.dumps(record), flush=True)


def _point(stream: TextIO, descriptor: int) -> None:
    """Redirect all following output to a stream and its descriptor."""
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)  # flush buffers of C libraries before redirecting
    os.dup2(descriptor, 1)
    sys.stdout = stream
