"""Errors that a family's own code raises, told in one line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from envs import Family, RunError, UsageError

T = TypeVar("T")


@contextmanager
def own_errors_told(family: Family) -> Iterator[None]:
    """Turn whatever the family raises into a RunError that says where; Ctrl-C passes.

    Among it are an OSError, which else would be taken for one of the run's folder, and SystemExit.
    """
    try:
        yield
    except (RunError, UsageError):
        raise
    except (Exception, SystemExit) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        frames = traceback.extract_tb(error.__traceback__)
        at = ([f for f in frames if "site-packages" not in f.filename] or frames)[-1]
        raise RunError(
            f"{family.name} raised {said} ({at.filename}, line {at.lineno}): fix it there."
        ) from error


def each_told(family: Family, steps: Iterator[T]) -> Iterator[T]:
    """The same steps, each made within `own_errors_told`."""
    while True:
        with own_errors_told(family):
            try:
                step = next(steps)
            except StopIteration:
                return
        yield step
