"""Means over runs and tasks, with 95 % intervals; which of two agents is better.

A table `x` is (M,), the return of one run on M tasks, or (S, M), of S runs that differ in their
seed alone, each on the same M tasks. Both are samples: of the seeds one might have trained with,
and of the tasks one might have met. The S means over tasks have an interval, and so have the M
means over seeds; how far they reach from the mean is added in quadrature, which for normal samples
covers at least what it says (Banerjee 1960, Sankhya 22, 355; Zou and Donner 2008, Statistics in
Medicine 27, 1693). One run is no sample of seeds: its interval is about this run, over tasks.

The interval of a sample is Student's, joined with Hall's for skewed samples (1992, Journal of the
Royal Statistical Society B 54, 221). Where at least half of the values are the same highest (or
lowest) one, as near a ceiling, a sample may by chance hold none of the rare failures. There it is
that of Learned-Miller and Thomas for a bounded variable (arXiv:1905.06208), which for shares of
successes is Clopper and Pearson's.

Agarwal et al. 2021 (arXiv:2108.13264), section 4, say which numbers to report.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Ends = tuple[float, float]
Reach = tuple[float, float]  # of an interval below and above the mean, both at least 0

TAIL = 0.025  # on either side of an interval
FEW_SEEDS = 5  # below which each is shown


def interval(
    x: Array,
    bounds: Ends | None = None,
    task: Array | None = None,
    over_episodes: Array | None = None,
) -> Ends:
    """95 % interval of the mean of (M,) or (S, M).

    Args:
        bounds: lowest and highest possible value, by default of `x` and 0. They matter only near a
            ceiling or a floor, where half of the values are equal.
        task: (M,) number of the task that each column is of, where these few are all there are and
            so no sample: the interval is over their episodes.
        over_episodes: (M,) half of the interval over the episodes of each column of a single run,
            which is all there is of a task that is met once.
    """
    x = np.atleast_2d(x)
    parts = _parts(x, task, over_episodes)
    if task is None and (bounded := _bounded(x, bounds)):
        parts[-1] = bounded
    return _ends(float(x.mean()), parts)


def difference_interval(
    x: Array,
    y: Array,
    bounds: Ends | None = None,
    task: Array | None = None,
    over_episodes: Array | None = None,
) -> Ends:
    """95 % interval of the mean of x - y, both (M,) or (S, M), paired by run and task.

    Where x or y is near a ceiling, the failures that it may not hold count as in `interval`.
    """
    x, y = np.atleast_2d(x), np.atleast_2d(y)
    parts = _parts(x - y, task, over_episodes)
    if task is None:
        parts += [_unseen(x, bounds), _unseen(y, bounds)[::-1]]
    return _ends(float((x - y).mean()), parts)


def iqm(x: Array) -> float:
    """Interquartile mean: of what is left without the lowest and the highest quarter of all values.

    Whole values only are left out, one in four, rounded down.
    """
    return float(_middle(x.ravel()))


def _middle(x: Array) -> Array:
    """Over the last axis."""
    n, cut = x.shape[-1], x.shape[-1] // 4
    middle: Array = np.partition(x, (cut, n - 1 - cut))[..., cut : n - cut].mean(axis=-1)
    return middle


def iqm_interval(x: Array, task: Array | None = None) -> Ends:
    """95 % interval of the interquartile mean of (M,) or (S, M).

    A trimmed mean varies as the mean of the winsorized values does, divided by the share that is
    kept (Tukey and McLaughlin 1963, Sankhya A 25, 331). Over tasks that is joined with a percentile
    bootstrap, expanded as by Hesterberg (arXiv:1411.5279), which holds where quartiles jump.
    """
    x = np.atleast_2d(x)
    cut, ordered = x.size // 4, np.sort(x, axis=None)
    influence = x.clip(ordered[cut], ordered[-1 - cut]) / (1 - 2 * cut / x.size)
    parts = _parts(influence, task, None)
    if task is None:
        below, above = map(max, parts[-1], _bootstrapped(x))
        parts[-1] = below, above
    return _ends(iqm(x), parts)


def probability_of_improvement(
    x: Array, y: Array, task: Array | None = None
) -> tuple[float, float, float]:
    """P(X > Y) on a task, mean over tasks, with its 95 % interval; equal returns count half.

    That every seed of X won says little of a further one, so a share of wins of 1/2 is added to
    those of the seeds before they are taken as a sample (Agresti and Coull 1998, The American
    Statistician 52, 119).

    Args:
        x: (M,) or (S, M), as in this whole module.
        y: (M,) or (S', M), of another agent on the same M tasks.
        task: as for `interval`.
    Raises:
        ValueError: x and y are not of the same tasks.
    Source: Agarwal et al. 2021 (arXiv:2108.13264), section 4.3.
    """
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"{x.shape[-1]} tasks against {y.shape[-1]}: give the same ones.")
    wins = np.heaviside(np.atleast_2d(x)[:, None] - np.atleast_2d(y)[None], 0.5)  # (S, S', M)
    mean, per_task = float(wins.mean()), wins.mean(axis=(0, 1))
    of_seeds = [share for axes in ((1, 2), (0, 2)) if len(share := wins.mean(axis=axes)) > 1]
    parts = []
    for share in (np.append(share, 0.5) for share in of_seeds):
        reach, shift = _student(share), mean - float(share.mean())
        parts.append((reach + shift, reach - shift))
    if task is None:
        parts.append(_bounded(per_task[None], (0.0, 1.0)) or _of_sample(per_task))
    elif not of_seeds:
        parts += _over_tasks(per_task, task, None)
    low, high = _ends(mean, parts)
    return mean, max(low, 0.0), min(high, 1.0)


def _ends(mean: float, parts: list[Reach]) -> Ends:
    """The interval around a mean of which independent parts reach so far."""
    below, above = (np.linalg.norm(np.maximum(side, 0.0)) for side in zip(*parts, strict=True))
    return mean - float(below), mean + float(above)


def _parts(x: Array, task: Array | None, over_episodes: Array | None) -> list[Reach]:
    """Of the mean of (S, M): over seeds, and over tasks."""
    if len(x) == 1:
        return _over_tasks(x[0], task, over_episodes)
    seeds = _of_sample(x.mean(axis=1))  # which vary with their episodes as well
    return [seeds, _of_sample(x.mean(axis=0))] if task is None else [seeds]


def _over_tasks(x: Array, task: Array | None, over_episodes: Array | None) -> list[Reach]:
    """Of the mean of (M,): over tasks, or over the episodes of those that are given."""
    if task is None:
        return [_of_sample(x)]
    parts = []
    for columns in (task == name for name in np.unique(task)):
        if columns.sum() > 1:
            below, above = _of_sample(x[columns])
        elif over_episodes is not None:
            below = above = float(over_episodes[columns][0])
        else:
            return [_of_sample(x)]
        parts.append((columns.mean() * below, columns.mean() * above))
    return parts


def _of_sample(x: Array) -> Reach:
    """Of the mean of independent values (n,): Student's interval and Hall's, whichever is longer.

    Student's holds where tails are heavy, Hall's where the sample is skewed.
    """
    n, t = len(x), _student(x)
    if n == 1 or t == 0:
        return 0.0, 0.0
    deviation = float(x.std(ddof=1))
    # Of the estimates of skewness, b1 of Joanes and Gill 1998, which varies least.
    a = float(np.mean((x - x.mean()) ** 3)) / deviation**3 / n**0.5
    if abs(a) < 1e-6:  # Hall's is Student's
        return t, t
    error = deviation / n**0.5
    below, above = (3 / a * (np.cbrt(1 + a * (y - a / 6)) - 1) for y in (t / error, -t / error))
    return max(t, error * float(below)), max(t, -error * float(above))


def _student(x: Array) -> float:
    """How far the interval reaches from the mean of (n,)."""
    if len(x) == 1 or np.ptp(x) == 0:
        return 0.0
    return float(half_width(x.std(ddof=1) / len(x) ** 0.5, len(x)))


def half_width(standard_error: Any, n: int) -> Any:
    """How far Student's interval reaches from the mean of n values."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return stdtrit(n - 1, 1 - TAIL) * standard_error


def _bootstrapped(x: Array) -> Reach:
    """Of the interquartile mean of (S, M), over tasks."""
    from scipy.special import ndtr

    tasks = x.shape[1]
    if tasks == 1:
        return 0.0, 0.0
    tail = float(ndtr(-half_width((tasks / (tasks - 1)) ** 0.5, tasks)))
    index = np.random.default_rng(0).integers(tasks, size=(_draws(1000, x.size), tasks))
    tables = np.moveaxis(x[:, index], 0, 1).reshape(len(index), -1)  # (draws, S M)
    low, high = np.quantile(_middle(tables), (tail, 1 - tail))
    return iqm(x) - float(low), float(high) - iqm(x)


def _draws(most: int, n: int) -> int:
    """Of n numbers each; fewer of large samples, which bounds memory."""
    return min(most, 5_000_000 // n)


def _bounded(x: Array, bounds: Ends | None) -> Reach | None:
    """Over tasks, of the mean of (S, M) near a ceiling or a floor; elsewhere None."""
    x = x.mean(axis=0)
    mean, low, high = float(x.mean()), float(x.min()), float(x.max())
    if len(x) == 1 or max(np.mean(x == low), np.mean(x == high)) < 0.5:
        return None
    a, b = bounds or (0.0, 0.0)
    return mean + _upper(-x, -min(a, low)), _upper(x, max(b, high)) - mean


def _unseen(x: Array, bounds: Ends | None) -> Reach:
    """How much further the interval near a ceiling or a floor reaches than that of the sample."""
    both = zip(_bounded(x, bounds) or (0.0, 0.0), _of_sample(x.mean(axis=0)), strict=True)
    below, above = (max(far**2 - near**2, 0.0) ** 0.5 for far, near in both)
    return below, above


def _upper(x: Array, bound: float) -> float:
    """Upper end of the interval for values (n,) that are at most `bound`."""
    gaps = np.diff(np.sort(x), append=bound)
    return float(np.quantile(bound - _uniform(len(x)) @ gaps, 1 - TAIL))


@lru_cache(maxsize=2)
def _uniform(n: int) -> Array:
    """Ordered samples of n uniform numbers, (draws, n)."""
    return np.sort(np.random.default_rng(0).random((_draws(20_000, n), n)), axis=1)
