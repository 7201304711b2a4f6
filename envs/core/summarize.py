"""Summarizing long lists of similar parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import TypeVar

T = TypeVar("T")


def fold(known: Mapping[str, T], shown: Callable[[T], tuple[str, ...]]) -> dict[str, T]:
    """Replace more than ten consecutive items that differ only by number with `x_0 ... x_99`.

    Args:
        shown: the displayed texts of an item, which must be equal within a group.
    """

    def key(item: tuple[str, T]) -> tuple[str, ...]:
        return item[0].rstrip("_0123456789"), *shown(item[1])

    folded: dict[str, T] = {}
    for _, run in groupby(known.items(), key):
        items = list(run)
        (first, parameter), (last, _) = items[0], items[-1]
        folded |= {f"{first} ... {last}": parameter} if len(items) > 10 else dict(items)
    return folded
