"""Parameters of a task: intervals and sets of values, with held-out parts."""

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
        extrapolation: a wider interval. Extrapolation tasks are drawn from its part outside
            `[low, high]`, which training never uses.
        default: value of tasks that don't specify one; None for the midpoint.
        log: draw uniformly in the logarithm.
        integer: integers only; the ends belong to each interval.
        held_out: an interval inside `[low, high]` for test tasks, which training never uses.
        validation: another interval inside, for validation tasks. Without it they use the training
            range, never `held_out`.

    Raises:
        UsageError: bounds are reversed, infinite, or leave nothing for training, or `validation`
            overlaps `held_out`.
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
            raise UsageError(f"{shown} extrapolation={outer}: make it contain {self}.")
        if self.extrapolation == (self.low, self.high):
            raise UsageError(f"{shown} extrapolation={outer}: make it wider, or leave it out.")
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
            raise UsageError(f"{shown} {kept}: nothing is left for training: hold out less.")
        if len(self._kept) == 2:
            (a, b), (c, d) = self._kept.values()
            if max(a, c) < min(b, d) or (self.integer and max(a, c) == min(b, d)):
                raise UsageError(f"{shown} {kept}: give two intervals that don't overlap.")

    @property
    def default_value(self) -> float:
        """Value of tasks that don't specify one."""
        if self.default is not None:
            return self.default
        return float(self.draw(torch.tensor(0.5, dtype=torch.float64)))

    @property
    def whole_numbers(self) -> float:
        """Number of values: infinite, unless they are integers."""
        return self.high - self.low + 1 if self.integer else math.inf

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value that any task may have."""
        return self.extrapolation or (self.low, self.high)

    def intervals(self, split: Split) -> list[tuple[float, float]]:
        """Intervals of the values of a split, in ascending order."""
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
        """The intervals that training never uses."""
        kept = {"held_out": self.held_out, "validation": self.validation}
        return {name: each for name, each in kept.items() if each is not None}

    def _without(
        self, parts: list[tuple[float, float]], cut: tuple[float, float]
    ) -> list[tuple[float, float]]:
        """Parts of these intervals that lie outside the interval `cut`."""
        gap = 1 if self.integer else 0  # integers next to an excluded end lie outside
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
        extrapolation: additional values for extrapolation tasks only.
        held_out: those of `values` reserved for test tasks, which training never uses.
        validation: others of `values`, reserved for validation tasks. Without them these use
            training values, never `held_out`.
        labels: what the values stand for if they aren't numbers: `labels[int(value)]`.

    Raises:
        UsageError: there are no values, a held-out value isn't among them, nothing is left for
            training, or a value is held out for both test and validation.
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
            raise UsageError(
                f"Choice without {without}: nothing of {self} is left for training: hold out less."
            )

    @property
    def default_value(self) -> float:
        """Value of tasks that don't specify one."""
        return self.members("train")[0]

    def members(self, split: Split) -> tuple[float, ...]:
        """Values of a split."""
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
        # A sum of masked constants, since indexing a new tensor would copy it from the host.
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
        """The label of the value, or the formatted number."""
        return str(self.labels[round(value)]) if self.labels else f"{value:g}"

    def __str__(self) -> str:
        shown = [self.show(v) for v in self.values]
        if len(shown) > 8:
            shown = [*shown[:3], "...", shown[-1]]
        return "{" + ", ".join(shown) + "}"


def _check_float32(shown: str, x: float) -> None:
    if not fits_float32(x):
        raise UsageError(
            f"{shown}: {x:g} is infinite or 0 in float32, which tasks are computed in: give other "
            "numbers, or another unit."
        )


Parameter = Range | Choice
