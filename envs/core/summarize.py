"""Many parameters alike, as a person reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import TypeVar

T = TypeVar("T")


def fold(known: Mapping[str, T], shown: Callable[[T], tuple[str, ...]]) -> dict[str, T]:
    """More than ten shown alike, and told apart by numbers alone, as one `x_0 ... x_99`."""

    def alike(item: tuple[str, T]) -> tuple[str, ...]:
        return item[0].rstrip("_0123456789"), *shown(item[1])

    folded: dict[str, T] = {}
    for _, run in groupby(known.items(), alike):
        items = list(run)
        (first, parameter), (last, _) = items[0], items[-1]
        folded |= {f"{first} ... {last}": parameter} if len(items) > 10 else dict(items)
    return folded
