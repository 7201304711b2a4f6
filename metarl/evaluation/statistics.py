"""Means over runs and tasks with 95 % intervals, and comparisons of two agents.

A table `x` is (M,), the returns of one run on M tasks, or (S, M), the returns of S runs that differ
only in their seed, on the same M tasks. Both seeds and tasks are samples. The S means over tasks
have an interval, and so do the M means over seeds; their half-widths are added in quadrature, which
for normal samples gives at least the nominal coverage (Banerjee 1960, Sankhya 22, 355; Zou and
Donner 2008, Statistics in Medicine 27, 1693). A single run is not a sample of seeds: its interval
is over tasks, for this run.

The interval of a sample is the union of Student's and of Hall's for skewed samples (1992, Journal
of the Royal Statistical Society B 54, 221). If at least half of the values equal the maximum (or
minimum), as near a ceiling, the sample may by chance contain none of the rare failures. The
interval is then that of Learned-Miller and Thomas for a bounded variable (arXiv:1905.06208), which
for success rates is the Clopper-Pearson interval.

Which numbers to report follows Agarwal et al. 2021 (arXiv:2108.13264), section 4.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Ends = tuple[float, float]
Reach = tuple[float, float]  # extent of an interval below and above the mean, both >= 0

TAIL = 0.025  # probability on either side of an interval
FEW_SEEDS = 5  # with fewer seeds, each is shown


def interval(
    x: Array,
    bounds: Ends | None = None,
    task: Array | None = None,
    over_episodes: Array | None = None,
) -> Ends:
    """95 % interval of the mean of (M,) or (S, M).

    Args:
        bounds: lowest and highest possible value; the default includes `x` and 0. They matter only
            near a ceiling or a floor, where half of the values are equal.
        task: (M,) task index of each column, if these are all existing tasks rather than a sample;
            the interval is then over their episodes.
        over_episodes: (M,) half-width of the interval over episodes for each column of a single
            run; used for tasks that appear in only one column.
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

    Near a ceiling of x or y, rare failures that the sample may not contain count as in `interval`.
    """
    x, y = np.atleast_2d(x), np.atleast_2d(y)
    parts = _parts(x - y, task, over_episodes)
    if task is None:
        parts += [_unseen(x, bounds), _unseen(y, bounds)[::-1]]
    return _ends(float((x - y).mean()), parts)


def iqm(x: Array) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter of all values.

    The number of values dropped at each end is n // 4.
    """
    return float(_middle(x.ravel()))


def _middle(x: Array) -> Array:
    """Interquartile mean over the last axis."""
    n, cut = x.shape[-1], x.shape[-1] // 4
    middle: Array = np.partition(x, (cut, n - 1 - cut))[..., cut : n - cut].mean(axis=-1)
    return middle


def iqm_interval(x: Array, task: Array | None = None) -> Ends:
    """95 % interval of the interquartile mean of (M,) or (S, M).

    The standard error of a trimmed mean is that of the mean of the winsorized values divided by the
    share kept (Tukey and McLaughlin 1963, Sankhya A 25, 331). Over tasks, the result is the union
    with an expanded percentile bootstrap interval (Hesterberg, arXiv:1411.5279), which remains
    valid where quartiles jump.
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
    """P(X > Y) on a task, mean over tasks, with its 95 % interval; ties count half.

    A pseudo-observation of 1/2 is added to the win rates of the seeds, because a win of every
    observed seed doesn't imply a win of the next one (Agresti and Coull 1998, The American
    Statistician 52, 119).

    Args:
        x: (M,) or (S, M).
        y: (M,) or (S', M), of another agent on the same M tasks.
        task: as for `interval`.
    Raises:
        ValueError: x and y have different numbers of tasks.
    Source: Agarwal et al. 2021 (arXiv:2108.13264), section 4.3.
    """
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"{x.shape[-1]} tasks against {y.shape[-1]}: give the same ones.")
    wins = np.heaviside(np.atleast_2d(x)[:, None] - np.atleast_2d(y)[None], 0.5)  # (S, S', M)
    mean, per_task = float(wins.mean()), wins.mean(axis=(0, 1))
    per_seed = [share for axes in ((1, 2), (0, 2)) if len(share := wins.mean(axis=axes)) > 1]
    parts = []
    for share in (np.append(share, 0.5) for share in per_seed):
        reach, shift = _student(share), mean - float(share.mean())
        parts.append((reach + shift, reach - shift))
    if task is None:
        parts.append(_bounded(per_task[None], (0.0, 1.0)) or _of_sample(per_task))
    elif not per_seed:
        parts += _over_tasks(per_task, task, None)
    low, high = _ends(mean, parts)
    return mean, max(low, 0.0), min(high, 1.0)


def _ends(mean: float, parts: list[Reach]) -> Ends:
    """Combine the reaches of independent components, in quadrature, into an interval."""
    below, above = (np.linalg.norm(np.maximum(side, 0.0)) for side in zip(*parts, strict=True))
    return mean - float(below), mean + float(above)


def _parts(x: Array, task: Array | None, over_episodes: Array | None) -> list[Reach]:
    """Reaches of the mean of (S, M): over seeds, and over tasks."""
    if len(x) == 1:
        return _over_tasks(x[0], task, over_episodes)
    seeds = _of_sample(x.mean(axis=1))  # includes the variation over episodes
    return [seeds, _of_sample(x.mean(axis=0))] if task is None else [seeds]


def _over_tasks(x: Array, task: Array | None, over_episodes: Array | None) -> list[Reach]:
    """Reaches of the mean of (M,): over tasks, or over episodes if `task` is given."""
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
    """Reach of the mean of independent values (n,): on each side, the longer of two intervals.

    Student's interval handles heavy tails, Hall's handles skewed samples.
    """
    n, t = len(x), _student(x)
    if n == 1 or t == 0:
        return 0.0, 0.0
    deviation = float(x.std(ddof=1))
    # The estimate b1 of skewness of Joanes and Gill 1998, which has the least variance.
    a = float(np.mean((x - x.mean()) ** 3)) / deviation**3 / n**0.5
    if abs(a) < 1e-6:  # without skew, Hall's interval equals Student's
        return t, t
    error = deviation / n**0.5
    below, above = (3 / a * (np.cbrt(1 + a * (y - a / 6)) - 1) for y in (t / error, -t / error))
    return max(t, error * float(below)), max(t, -error * float(above))


def _student(x: Array) -> float:
    """Half-width of Student's interval for the mean of (n,)."""
    if len(x) == 1 or np.ptp(x) == 0:
        return 0.0
    return float(half_width(x.std(ddof=1) / len(x) ** 0.5, len(x)))


def half_width(standard_error: Any, n: int) -> Any:
    """Half-width of Student's interval for the mean of n values."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return stdtrit(n - 1, 1 - TAIL) * standard_error


def _bootstrapped(x: Array) -> Reach:
    """Bootstrap reach of the interquartile mean of (S, M), over tasks."""
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
    """Number of draws of n values each; fewer for large samples, to bound memory."""
    return min(most, 5_000_000 // n)


def _bounded(x: Array, bounds: Ends | None) -> Reach | None:
    """Reach of the mean of (S, M) over tasks near a ceiling or a floor; None elsewhere."""
    x = x.mean(axis=0)
    mean, low, high = float(x.mean()), float(x.min()), float(x.max())
    if len(x) == 1 or max(np.mean(x == low), np.mean(x == high)) < 0.5:
        return None
    a, b = bounds or (0.0, 0.0)
    return mean + _upper(-x, -min(a, low)), _upper(x, max(b, high)) - mean


def _unseen(x: Array, bounds: Ends | None) -> Reach:
    """Additional reach, in quadrature, of the bounded interval beyond that of the sample."""
    both = zip(_bounded(x, bounds) or (0.0, 0.0), _of_sample(x.mean(axis=0)), strict=True)
    below, above = (max(outer**2 - inner**2, 0.0) ** 0.5 for outer, inner in both)
    return below, above


def _upper(x: Array, bound: float) -> float:
    """Upper end of the interval of the mean of values (n,) that are at most `bound`."""
    gaps = np.diff(np.sort(x), append=bound)
    return float(np.quantile(bound - _uniform(len(x)) @ gaps, 1 - TAIL))


@lru_cache(maxsize=2)
def _uniform(n: int) -> Array:
    """Ordered samples of n uniform numbers, (draws, n)."""
    return np.sort(np.random.default_rng(0).random((_draws(20_000, n), n)), axis=1)
