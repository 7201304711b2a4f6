"""Cached lookup tables for the dynamics of families."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def table(function: Callable[P, R]) -> Callable[P, R]:
    """Cache the result of a function by its (hashable) arguments.

    `torch.compile` treats the result as a constant and doesn't trace its construction.
    """
    cached = lru_cache(function)

    @wraps(function)
    def look_up(*args: P.args, **kwargs: P.kwargs) -> R:
        return cached(*args, **kwargs)  # type: ignore[arg-type]

    # Same as torch.compiler.assume_constant_result, without the import, which takes a second.
    look_up._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return look_up
