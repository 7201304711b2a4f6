"""Tests by regression whether the first observation predicts hidden parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.envs.core.family import Family, parameters, sample_tasks
from metarl.envs.core.parameters import Choice, Parameter
from metarl.envs.core.simulator import simulate

EPISODES, FOLDS, SHUFFLES, PENALTY = 600, 5, 50, 0.3
Array = np.ndarray[Any, Any]


def readable(family: Family) -> dict[str, float]:
    """Parameters that the first observation predicts, with the share of variance explained.

    Uses cross-validated ridge regression of each parameter on the observation and random features.
    Regressions on shuffled tasks give the null distribution; the threshold is its mean plus six
    standard deviations.
    """
    task = sample_tasks(family, EPISODES, torch.Generator().manual_seed(2))
    obs = first_observation(family, task)[:, 0]
    x, (y, names) = features(obs), targets(family, task)
    if not (x.shape[1] and y.shape[1]):
        return {}  # observations or parameters are constant
    gen = np.random.default_rng(1)
    shuffled = np.concatenate([y[gen.permutation(len(y))] for _ in range(SHUFFLES)], axis=1)
    share, *chance = share_explained(x, np.concatenate((y, shuffled), axis=1)).reshape(
        -1, len(names)
    )
    limit = np.mean(chance, axis=0) + 6 * np.std(chance, axis=0)
    return {n: float(s) for n, s, most in zip(names, share, limit, strict=True) if s > most}


def first_observation(family: Family, task: Any, episodes: int = 1, seed: int = 0) -> Tensor:
    """First observations, (N, B, *obs)."""
    gen = torch.Generator().manual_seed(seed)
    obs: Tensor = simulate(family, task, episodes, gen).reset()
    return obs


def values_of(known: Parameter) -> tuple[float, ...]:
    """All values of a Choice, or the bounds of a Range."""
    return known.values + known.extrapolation if isinstance(known, Choice) else known.bounds


def features(obs: Tensor) -> Array:
    """Standardized features (N, F): nonconstant values, squares and hinges of random sums."""
    x: Array = obs.flatten(1).double().numpy()
    x = x[:, x.std(0) > 1e-9]
    if not x.shape[1]:
        return x
    x = (x - x.mean(0)) / x.std(0)
    sums = x @ np.random.default_rng(0).normal(size=(x.shape[1], 100)) / x.shape[1] ** 0.5
    x = np.concatenate((x, sums**2, np.maximum(sums, 0)), axis=1)
    scaled: Array = (x - x.mean(0)) / x.std(0)
    return scaled


def targets(family: Family, task: Any) -> tuple[Array, list[str]]:
    """Centered columns, one per Range and per value of a Choice, and the parameter of each."""
    columns, names = [], []
    for name, known in parameters(family).items():
        x = getattr(task, name).double().numpy()
        each = np.isclose(x, values_of(known)) if isinstance(known, Choice) else x
        each = each[:, each.std(0) > 0].astype(float)
        columns.append(each - each.mean(0))
        names += [name] * each.shape[1]
    return np.concatenate(columns, axis=1), names


def share_explained(x: Array, y: Array) -> Array:
    """Cross-validated R^2 of each column of `y` by ridge regression on `x`."""
    error = np.zeros(y.shape[1])
    for fold in range(FOLDS):
        out = np.arange(len(x)) % FOLDS == fold
        a, level = x[~out], y[~out].mean(0)
        penalty = PENALTY * len(a) * np.eye(x.shape[1])
        weights = np.linalg.solve(a.T @ a + penalty, a.T @ (y[~out] - level))
        error += ((y[out] - level - x[out] @ weights) ** 2).sum(0)
    share: Array = 1 - error / (y**2).sum(0)
    return share
