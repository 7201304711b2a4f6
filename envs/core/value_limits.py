"""Checks that numbers fit their numeric type and are meaningful."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from metarl.envs.core.errors import UsageError
from metarl.envs.core.parameters import Choice, Range
from metarl.envs.core.precision import fits_float32

HORIZON = 1, 1_000_000  # steps


def check_constants(family: Any, **limits: tuple[float, float]) -> None:
    """Raise UsageError unless each field of a family lies within its closed interval.

    All values of a parameter are checked, including extrapolation. Parameters that are a `Choice`
    by default index a table and must be integers.
    """
    for name, (low, high) in limits.items():
        value = getattr(family, name)
        numbers = list(_numbers(value))
        whole = isinstance(_default(family, name), Choice)
        if whole and isinstance(value, Range) and not value.integer:
            raise UsageError(
                f"{family.name}: {name} in {value}: it is an index and must be an integer: give "
                f"values, such as {name}={low:g},{high:g}, or a range with :int."
            )
        for x in numbers:
            if not (low <= x <= high and fits_float32(x)) or (whole and x != round(x)):
                kind = "whole numbers" if whole else "a value"
                raise UsageError(
                    f"{family.name}: {name}={x:g} is out of bounds: give {kind} in "
                    f"[{low:g}, {high:g}]."
                )


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, Range):
        return value.bounds
    if isinstance(value, Choice):
        return value.values + value.extrapolation
    return (value,)


def _default(family: Any, name: str) -> Any:
    return next(f.default for f in dataclasses.fields(family) if f.name == name)
