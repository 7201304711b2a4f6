"""A task's parameters: intervals and sets, with what training never sees of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metarl.envs.core.errors import UsageError
from metarl.envs.core.precision import fits_float32
from metarl.envs.core.splits import Split


@dataclass(frozen=True)
class Range:
    """Closed interval of one task parameter; training tasks draw from it uniformly.

    Attributes:
        beyond: a wider interval; what lies in it and outside `[low, high]` is the extrapolation
            range, which training never sees.
        default: value of a task that doesn't say; None is half-way.
        log: draws are uniform in the logarithm.
        integer: whole numbers only; the ends belong to each interval.
        held_out: an interval inside, which training never sees and test tasks are drawn from.
        validation: another interval inside, for validation tasks; without one they are drawn from
            training's range, never from `held_out`.
    Raises:
        UsageError: bounds that are reversed, infinite, or leave training nothing; a `validation`
            that overlaps `held_out`.
    """

    low: float
    high: float
    unit: str = ""
    extrapolation: tuple[float, float] | None = None
    default: float | None = None
    log: bool = False
    integer: bool = False
    held_out: tuple[float, float] | None = None
    validation: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        shown = f"Range({self.low:g}, {self.high:g})"
        outer = self.bounds
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise UsageError(f"{shown}: give finite low <= high.")
        for x in (self.low, self.high, *outer):
            _check_float32(shown, x)
        if not (outer[0] <= self.low and self.high <= outer[1]):
            raise UsageError(f"{shown} beyond={outer}: make it contain {self}.")
        if self.extrapolation == (self.low, self.high):
            raise UsageError(f"{shown} beyond={outer}: make it wider, or leave it out.")
        if self.log and outer[0] <= 0:
            raise UsageError(f"{shown} with log: give bounds above 0, or leave log out.")
        if self.integer and any(x != round(x) for x in (*outer, self.low, self.high)):
            raise UsageError(f"{shown} with integer: give whole bounds.")
        self._check_kept(shown)

    def _check_kept(self, shown: str) -> None:
        for name, (a, b) in self._kept.items():
            if not (self.low <= a <= b <= self.high) or (a == b and not self.integer):
                raise UsageError(f"{shown} {name}=({a:g}, {b:g}): give an interval inside.")
        kept = ", ".join(f"{name}=({a:g}, {b:g})" for name, (a, b) in self._kept.items())
        if not self.intervals("train"):
            raise UsageError(f"{shown} {kept}: it leaves training nothing.")
        if len(self._kept) == 2:
            (a, b), (c, d) = self._kept.values()
            if max(a, c) < min(b, d) or (self.integer and max(a, c) == min(b, d)):
                raise UsageError(f"{shown} {kept}: give two intervals that don't overlap.")

    @property
    def default_value(self) -> float:
        """Value of a task that doesn't say."""
        if self.default is not None:
            return self.default
        return float(self.draw(torch.tensor(0.5, dtype=torch.float64)))

    @property
    def whole_numbers(self) -> float:
        """How many values there are: infinitely many, unless they are integers."""
        return self.high - self.low + 1 if self.integer else math.inf

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value that any task may have."""
        return self.extrapolation or (self.low, self.high)

    def intervals(self, split: Split) -> list[tuple[float, float]]:
        """Where the tasks of a split lie, in ascending order."""
        if split == "extrapolate" and self.extrapolation:
            return self._without([self.extrapolation], (self.low, self.high))
        own = {"test": self.held_out, "validation": self.validation}.get(split)
        if own is not None:
            return [own]
        found = [(self.low, self.high)]
        for kept in self._kept.values():
            found = self._without(found, kept)
        return found

    @property
    def _kept(self) -> dict[str, tuple[float, float]]:
        """The intervals that training never sees."""
        kept = {"held_out": self.held_out, "validation": self.validation}
        return {name: each for name, each in kept.items() if each is not None}

    def _without(
        self, parts: list[tuple[float, float]], cut: tuple[float, float]
    ) -> list[tuple[float, float]]:
        """The parts of these intervals that lie outside of another one."""
        gap = 1 if self.integer else 0  # whole neighbours of an excluded end are outside
        sides = [
            side
            for a, b in parts
            for side in ((a, min(b, cut[0] - gap)), (max(a, cut[1] + gap), b))
        ]
        return [(a, b) for a, b in sides if a < b + gap]

    def draw(self, u: Tensor, split: Split = "train") -> Tensor:
        """Map `u`, uniform in [0, 1), to values of the same shape."""
        half = 0.5 if self.integer else 0.0
        found = self.intervals(split)
        ends = [(self._coordinate(a - half), self._coordinate(b + half)) for a, b in found]
        x = u * sum(b - a for a, b in ends)
        value = torch.zeros_like(u)
        for (low, high), (a, b) in zip(found, ends, strict=True):
            y = (a + x).exp() if self.log else a + x
            y = (y.round() if self.integer else y).clamp(low, high)
            value = torch.where((x >= 0) & (x <= b - a), y, value)
            x = x - (b - a)
        return value

    def _coordinate(self, x: float) -> float:
        return math.log(x) if self.log else x

    def allows(self, value: float) -> bool:
        """Whether a task may have this value."""
        # Values travel as float32: 0.8 arrives as 0.800000012.
        slack = 1e-6 * max(abs(b) for b in self.bounds)
        inside = self.bounds[0] - slack <= value <= self.bounds[1] + slack
        return inside and (not self.integer or value == round(value))

    def __str__(self) -> str:
        kind = (" log" if self.log else "") + (" integer" if self.integer else "")
        return f"[{self.low:g}, {self.high:g}]{kind}"


@dataclass(frozen=True)
class Choice:
    """Finite set of values of one task parameter; training tasks draw from it uniformly.

    Attributes:
        beyond: values that only extrapolation tasks have, beside `values`.
        held_out: those of `values` that training never sees and test tasks are drawn from.
        validation: others of `values`, for validation tasks alone; without any these have values
            of training, never of `held_out`.
        labels: what the values stand for, where they are no numbers: `labels[int(value)]`.
    Raises:
        UsageError: no value, hold-outs that are no values or leave training nothing, or a value
            held out both for test and for validation.
    """

    values: tuple[float, ...]
    unit: str = ""
    extrapolation: tuple[float, ...] = ()
    held_out: tuple[float, ...] = ()
    labels: tuple[Any, ...] = ()
    validation: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.values:
            raise UsageError("Choice(()): give at least one value.")
        for x in self.values + self.extrapolation:
            _check_float32("Choice", x)
        for name, kept in (("held_out", self.held_out), ("validation", self.validation)):
            for value in kept:
                if value not in self.values:
                    raise UsageError(
                        f"Choice {name}={self.show(value)}: give some of {self}, all but one at "
                        "most."
                    )
        if both := [self.show(v) for v in self.validation if v in self.held_out]:
            raise UsageError(
                f"Choice held_out and validation both have {', '.join(both)}: give each value to "
                "one of them."
            )
        if not self.members("train"):
            without = ", ".join(map(self.show, self.held_out + self.validation))
            raise UsageError(f"Choice without {without}: it leaves training none of {self}.")

    @property
    def default_value(self) -> float:
        """Value of a task that doesn't say."""
        return self.members("train")[0]

    def members(self, split: Split) -> tuple[float, ...]:
        """The values of a split's tasks."""
        if split == "extrapolate" and self.extrapolation:
            return self.extrapolation
        if split == "test" and self.held_out:
            return self.held_out
        if split == "validation" and self.validation:
            return self.validation
        return tuple(v for v in self.values if v not in self.held_out + self.validation)

    def draw(self, u: Tensor, split: Split = "train") -> Tensor:
        """Map `u`, uniform in [0, 1), to values of the same shape."""
        values = self.members(split)
        index = (u * len(values)).long().clamp(max=len(values) - 1)
        # Sums of masked constants, since a table made here would be a copy from the host.
        return sum(
            (value * (index == i).to(u.dtype) for i, value in enumerate(values)),
            torch.zeros_like(u),
        )

    def allows(self, value: float) -> bool:
        """Whether a task may have this value."""
        # Values travel as float32: 0.1 arrives as 0.100000001.
        known = (*self.values, *self.extrapolation)
        return any(math.isclose(value, v, rel_tol=1e-6, abs_tol=1e-9) for v in known)

    def show(self, value: float) -> str:
        """The value as a person reads it."""
        return str(self.labels[round(value)]) if self.labels else f"{value:g}"

    def __str__(self) -> str:
        shown = [self.show(v) for v in self.values]
        if len(shown) > 8:
            shown = [*shown[:3], "...", shown[-1]]
        return "{" + ", ".join(shown) + "}"


def _check_float32(shown: str, x: float) -> None:
    if not fits_float32(x):
        raise UsageError(
            f"{shown}: {x:g} is infinite or 0 in float32, in which tasks are computed: give other "
            "numbers, or another unit."
        )


Parameter = Range | Choice
