"""Means over runs and tasks, with bootstrap intervals; which of two agents is better.

A table `x` is (M,), the return of one run on M tasks, or (S, M), of S runs that differ in their
seed alone, each on the same M tasks. Both are samples: of the seeds one might have trained with,
and of the tasks one might have met. So a bootstrap draw takes seeds and, independently, tasks.

Sources: Agarwal et al. 2021 (arXiv:2108.13264), section 4, for which numbers to report; Owen 2007
(arXiv:0712.1111) for drawing rows and columns of one table; Efron and Tibshirani 1993, An
Introduction to the Bootstrap, chapter 13, for percentiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Axes = tuple[int, ...]

BATCH = 500  # draws at once, which bounds memory


def interval(x: Array, seed: int = 0, draws: int = 10_000) -> tuple[float, float]:
    """95 % interval of the mean of (M,) or (S, M)."""
    return _percentiles(x, np.mean, seed, draws)


def iqm(x: Array) -> float:
    """Interquartile mean: of what is left without the lowest and the highest quarter of all values.

    Whole values only are left out, one in four, rounded down.
    """
    return float(_middle(x, None))


def iqm_interval(x: Array, seed: int = 0, draws: int = 10_000) -> tuple[float, float]:
    """95 % interval of the interquartile mean of (M,) or (S, M)."""
    return _percentiles(x, _middle, seed, draws)


def probability_of_improvement(
    x: Array, y: Array, seed: int = 0, draws: int = 10_000
) -> tuple[float, float, float]:
    """P(X > Y) on a task, mean over tasks, with its 95 % interval; equal returns count half.

    Args:
        x: (M,) or (S, M), as in this whole module.
        y: (M,) or (S', M), of another agent on the same M tasks.
    Raises:
        ValueError: x and y are not of the same tasks.
    Source: Agarwal et al. 2021 (arXiv:2108.13264), section 4.3.
    """
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"{x.shape[-1]} tasks beside {y.shape[-1]}: give the same ones.")
    wins = np.heaviside(np.atleast_2d(x)[:, None] - np.atleast_2d(y)[None], 0.5)  # (S, S', M)
    return (float(wins.mean()), *_percentiles(wins, np.mean, seed, draws))


def _middle(x: Array, axis: Axes | None) -> Any:
    from scipy.stats import trim_mean  # type: ignore[import-untyped]  # slow to load

    flat = x.reshape(*x.shape[: x.ndim - len(axis)], -1) if axis else x.ravel()
    return trim_mean(flat, 0.25, axis=-1)


def _percentiles(
    x: Array, statistic: Callable[..., Any], seed: int, draws: int
) -> tuple[float, float]:
    """Percentile interval of a statistic of a table, each of whose axes is drawn anew."""
    from scipy.stats import bootstrap

    x = x.squeeze(tuple(a for a, n in enumerate(x.shape) if n == 1))  # nothing to draw from
    if not x.ndim:
        return float(x), float(x)
    axes = tuple(range(-x.ndim, 0))

    def of_draws(*index: Any, axis: int) -> Any:
        """Of tables made of the rows, columns, ... in `index`, (draws, n) for each axis."""
        grid = []
        for own, i in zip(axes, index, strict=True):
            grid.append(np.expand_dims(i, tuple(a for a in axes if a != own)))
        return statistic(x[tuple(grid)], axis=axes)

    result = bootstrap(
        [np.arange(n) for n in x.shape],
        of_draws,
        n_resamples=draws,
        batch=BATCH,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return float(low), float(high)
