"""How often 95 % intervals hold what they are of: `python tests/interval_coverage.py 5000`.

Draws that many data sets of each mixture and number of seeds, and prints the shares. The true value
for one seed is that run's own mean over all tasks, for more it is the mean over all seeds as well.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from metarl.evaluation.statistics import (
    difference_interval,
    interval,
    iqm,
    iqm_interval,
    probability_of_improvement,
)

TASKS = 40
SEEDS = (1, 2, 3, 5)
CEILING = 200.0
BOUNDS = (0.0, CEILING)
START = 20.0  # mean return before adaptation
MANY = 1_000_000


class Mixture(NamedTuple):
    """Where returns (S, M) come from: effects of seeds (S, 1), of tasks (1, M), and of both."""

    seed: Callable
    task: Callable
    both: Callable
    mean: float
    bounds: tuple[float, float] | None = None
    mean_of_effects: float = 0.0

    def draw(self, rng, seeds, tables=1):
        """Tables of so many seeds on the same tasks, and what the seeds' effects are."""
        task = self.task(rng, (1, TASKS))
        for _ in range(tables):
            seed = self.seed(rng, (seeds, 1))
            yield seed + task + self.both(rng, (seeds, TASKS)), seed

    def iqm(self, seeds):
        """Without the effect of the seed where there is but one."""
        rng, n = np.random.default_rng(0), (MANY,)
        effect = self.seed(rng, n) if seeds > 1 else 0.0
        return iqm(effect + self.task(rng, n) + self.both(rng, n))


class NearCeiling(Mixture):
    """The effect of a seed is the share of tasks in which it fails; the others are at the top."""

    def draw(self, rng, seeds, tables=1):
        for _ in range(tables):
            share = self.seed(rng, (seeds, 1))
            fails = rng.random((seeds, TASKS)) < share
            yield CEILING - np.where(fails, self.both(rng, fails.shape), 0.0), -100.0 * share

    def iqm(self, seeds):
        return CEILING


def scale(sd, draw):
    return lambda rng, shape: sd * draw(rng, shape)


def normal(rng, shape):
    return rng.normal(size=shape)


def t3(rng, shape):
    return rng.standard_t(3, shape)


def exponential(rng, shape):
    return rng.exponential(size=shape) - 1.0


def lognormal(rng, shape):
    return rng.lognormal(0.0, 0.7, shape) - np.exp(0.245)


def two_modes(rng, shape):
    return rng.choice((-1.0, 1.0), shape) + normal(rng, shape)


def solved_or_not(rng, shape):
    return np.where(rng.random(shape) < 0.3, 0.0, 10.0) - 7.0


MIXTURES = {
    "normal": Mixture(normal, scale(2, normal), normal, 0.0),
    "heavy tails": Mixture(t3, scale(2, t3), t3, 0.0),
    "skewed": Mixture(exponential, scale(3, lognormal), exponential, 0.0),
    "near a ceiling": NearCeiling(
        lambda rng, shape: rng.uniform(0.0, 0.1, shape),
        normal,
        lambda rng, shape: rng.uniform(0.0, CEILING, shape),
        CEILING - 5.0,
        BOUNDS,
        mean_of_effects=-5.0,
    ),
    "two modes": Mixture(two_modes, solved_or_not, normal, 0.0),
}


def holds(ends, truth):
    return ends[0] <= truth <= ends[1]


def coverage(mixture, seeds, sets, rng):
    """Share of intervals that hold the true mean, gain, and P(better).

    The last is of two tables of the same algorithm, so it is 0.5.
    """
    found = []
    for _ in range(sets):
        (x, effect), (y, _) = mixture.draw(rng, seeds, tables=2)
        mean = mixture.mean + own_effect(mixture, effect)
        before = rng.normal(START, 1.0, x.shape)
        gain = difference_interval(x, before, mixture.bounds)
        better = probability_of_improvement(x, y)[1:]
        ends = interval(x, mixture.bounds), gain, better
        found.append([*map(holds, ends, (mean, mean - START, 0.5))])
    return np.mean(found, axis=0)


def iqm_coverage(mixture, seeds, sets, rng):
    """Share of intervals that hold the true interquartile mean."""
    true, found = mixture.iqm(seeds), []
    for _ in range(sets):
        ((x, effect),) = mixture.draw(rng, seeds)
        own = 0.0 if true == CEILING else own_effect(mixture, effect)
        found.append(holds(iqm_interval(x), true + own))
    return np.mean(found)


def own_effect(mixture, effect):
    """What a single run, (1, 1), has more than the mean over seeds; of several runs, nothing."""
    return float(effect[0, 0] - mixture.mean_of_effects) if len(effect) == 1 else 0.0


if __name__ == "__main__":
    print(f"{'':15} seeds   mean   gain  P(better)  IQM")
    for name, mixture in MIXTURES.items():
        for seeds in SEEDS:
            draw = mixture, seeds, int(sys.argv[1]), np.random.default_rng(seeds)
            row = *coverage(*draw), iqm_coverage(*draw)
            print(f"{name:15} {seeds:5}", *(f"{share:6.3f}" for share in row), flush=True)
