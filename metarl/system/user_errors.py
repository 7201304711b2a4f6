"""Errors that a family's own code raises, told in one line."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from metarl.envs import Family, RunError, UsageError
from metarl.envs.core.free_memory import in_bytes

T = TypeVar("T")


@contextmanager
def report_user_errors(family: Family) -> Iterator[None]:
    """Turn whatever the family raises into a RunError that says where; Ctrl-C passes."""
    with report_errors_of(family.name):
        yield


@contextmanager
def report_errors_of(owner: str) -> Iterator[None]:
    """Turn whatever a user's code raises into a RunError that says where; Ctrl-C passes.

    Among it are an OSError, which else would be taken for one of the run's folder, and SystemExit.
    """
    try:
        yield
    except (RunError, UsageError):
        raise
    except (Exception, SystemExit) as error:
        if wanted := _memory_wanted(error):
            raise RunError(
                f"{owner}: out of memory, {wanted}: give fewer --tasks or --episodes, or a "
                "smaller --task-chunk."
            ) from error
        said = " ".join(f"{type(error).__name__}: {error}".split())
        frames = traceback.extract_tb(error.__traceback__)
        at = ([f for f in frames if "site-packages" not in f.filename] or frames)[-1]
        raise RunError(
            f"{owner} raised {said} ({at.filename}, line {at.lineno}): fix it there."
        ) from error


def _memory_wanted(error: BaseException) -> str:
    """What there was no memory for; empty where that isn't the error."""
    if size := re.search(r"tried to allocate (\d+) bytes", str(error)):  # torch, on a CPU
        return f"with {in_bytes(int(size[1]))} asked for at once"
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return " ".join(f"{type(error).__name__} {error}".split())
    return ""


def report_each(family: Family, steps: Iterator[T]) -> Iterator[T]:
    """The same steps, each made within `report_user_errors`."""
    while True:
        with report_user_errors(family):
            try:
                step = next(steps)
            except StopIteration:
                return
        yield step
