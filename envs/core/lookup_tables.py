"""Tables that a family's dynamics look up: made once, and the same ever after."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def table(function: Callable[P, R]) -> Callable[P, R]:
    """Keep what the function made of these numbers, names and device.

    To `torch.compile` it is a constant, whose making is no part of a program.
    """
    kept = lru_cache(function)

    @wraps(function)
    def look_up(*args: P.args, **kwargs: P.kwargs) -> R:
        return kept(*args, **kwargs)  # type: ignore[arg-type]

    # What torch.compiler.assume_constant_result does, without its import, which takes a second.
    look_up._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return look_up
