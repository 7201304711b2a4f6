"""Chooses the values of a parameter that are checked before training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from metarl.envs.core.parameters import Choice, Parameter
from metarl.envs.core.splits import SPLITS, Split
from metarl.envs.gym.bound_env import Settings
from metarl.envs.gym.checks.parameter_check import Probe

FEW = 16  # values of a set that are checked
HELD_OUT, TRAIN = 50, 200  # values that are compared to detect duplicate levels
# Quantiles that should behave differently. They are unevenly spaced, to work for symmetric and
# periodic effects, and exclude the ends, where a parameter may have no effect.
TELLING = (0.05, 0.95, 0.27, 0.71, 0.5)
ENDS = (1e-6, 1 - 1e-6)
T = TypeVar("T")


def probe(parameter: Parameter, setting: Callable[[float], Settings], is_known: bool) -> Probe:
    """The variants that are checked for a parameter.

    Args:
        setting: maps a value to its variant.
        is_known: the parameter is known to have an effect.
    """
    kinds = _every_kind(parameter)
    held_out = train = []
    if parameter.held_out:
        held_out, train = _members(parameter, "test"), _members(parameter, "train")
    return Probe(
        [setting(v) for v in _telling(parameter)],
        [setting(v) for v in ((kinds[0], kinds[-1]) if is_known else kinds)],
        [setting(v) for v in _some(held_out, HELD_OUT)],
        [setting(v) for v in _some(train, TRAIN)],
        is_known,
    )


def _telling(parameter: Parameter) -> list[float]:
    """Values that should behave differently."""
    if isinstance(parameter, Choice):
        return _some([*parameter.values, *parameter.extrapolation], FEW)
    return _draw(parameter, TELLING, "train")


def _every_kind(parameter: Parameter) -> list[float]:
    """Values of all splits, including the ends of each."""
    if isinstance(parameter, Choice):
        return _some([*parameter.values, *parameter.extrapolation], FEW)
    return sorted({v for split in SPLITS for v in _draw(parameter, (*TELLING, *ENDS), split)})


def _members(parameter: Parameter, split: Split) -> list[float]:
    """All values of a split, or a sample if it is continuous."""
    if isinstance(parameter, Choice):
        return list(parameter.members(split))
    if parameter.integer:
        spans = parameter.intervals(split)
        return [float(v) for a, b in spans for v in range(round(a), round(b) + 1)]
    count = 8 if split == "test" else 32
    return _draw(parameter, [(i + 0.5) / count for i in range(count)], split)


def _draw(parameter: Parameter, quantiles: Sequence[float], split: Split) -> list[float]:
    values: list[float] = parameter.draw(
        torch.tensor(quantiles, dtype=torch.float64), split
    ).tolist()
    return values


def _some(values: Sequence[T], most: int) -> list[T]:
    """At most `most` evenly spaced values, including the first and the last."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
