"""Report errors of a family's code in one line."""

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

    Includes OSError, which would otherwise be taken for an error of the run's folder, and
    SystemExit; KeyboardInterrupt passes.
    """
    try:
        yield
    except (RunError, UsageError):
        raise
    except (Exception, SystemExit) as error:
        if request := _failed_allocation(error):
            raise RunError(
                f"{owner}: out of memory, {request}: give fewer --tasks or --episodes, or a "
                "smaller --task-chunk."
            ) from error
        message = " ".join(f"{type(error).__name__}: {error}".split())
        frames = traceback.extract_tb(error.__traceback__)
        at = ([f for f in frames if "site-packages" not in f.filename] or frames)[-1]
        raise RunError(
            f"{owner} raised {message} ({at.filename}, line {at.lineno}): fix it there."
        ) from error


def _failed_allocation(error: BaseException) -> str:
    """The allocation that failed; empty if the error is not about memory."""
    if size := re.search(r"tried to allocate (\d+) bytes", str(error)):  # torch, on a CPU
        return f"in an allocation of {in_bytes(int(size[1]))}"
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return " ".join(f"{type(error).__name__} {error}".split())
    return ""


def report_each(family: Family, steps: Iterator[T]) -> Iterator[T]:
    """Iterate over `steps`, computing each within `report_user_errors`."""
    while True:
        with report_user_errors(family):
            try:
                step = next(steps)
            except StopIteration:
                return
        yield step
