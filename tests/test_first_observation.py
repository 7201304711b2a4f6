"""No hidden parameter can be read off the first observation: the agent has to find it out."""

import dataclasses

import numpy as np
import pytest
import torch
from reference import TENSOR

from metarl.envs import FAMILIES, Choice, make_family, parameters, sample_tasks, simulate
from metarl.envs.games.snake import Snake

# Open to view by design, as the families' docstrings say; what has to be found out is the rest.
VISIBLE = {("breakout", "layout"), ("maze", "layout"), ("lunar-lander", "turbulence_power")}
TORCH = [name for name, cls in FAMILIES.items() if hasattr(cls, "task_type")]  # and MuJoCo's
CHEAP = ("half-cheetah-vel", "ant-goal", "humanoid-dir", "hopper-rand-params")
EPISODES, FOLDS, SHUFFLES, PENALTY = 600, 5, 50, 0.3


def first_observation(family, task, episodes=1, seed=0):
    """(N, B, *shape)"""
    return simulate(family, task, episodes, torch.Generator().manual_seed(seed)).reset()


def values_of(known):
    return known.values + known.extrapolation if isinstance(known, Choice) else known.bounds


@pytest.mark.parametrize("name", TORCH)
def test_the_first_observation_depends_on_no_hidden_parameter(name):
    """With the same noise it is the same whatever a parameter is, so nothing can be read off it."""
    pytest.importorskip("mujoco") if name not in TENSOR else None
    family = make_family(name)
    task = sample_tasks(family, 1, torch.Generator().manual_seed(0))
    defaults, found = first_observation(family, task, 20), set()
    for parameter, known in parameters(family).items():
        moved = [
            task._replace(**{parameter: torch.full((1, 1), float(v))}) for v in values_of(known)
        ]
        if not all(torch.equal(first_observation(family, each, 20), defaults) for each in moved):
            found.add((name, parameter))
    assert found == {pair for pair in VISIBLE if pair[0] == name}


def features(obs):
    """Of each episode: what varies of it, with squares and hinges of random sums, (N, F)."""
    x = obs.flatten(1).double().numpy()
    x = x[:, x.std(0) > 1e-9]
    if not x.shape[1]:
        return x
    x = (x - x.mean(0)) / x.std(0)
    sums = x @ np.random.default_rng(0).normal(size=(x.shape[1], 100)) / x.shape[1] ** 0.5
    x = np.concatenate((x, sums**2, np.maximum(sums, 0)), axis=1)
    return (x - x.mean(0)) / x.std(0)


def targets(family, task):
    """A column for each range and for each value of a choice, of mean 0; and its parameter."""
    columns, names = [], []
    for name, known in parameters(family).items():
        x = getattr(task, name).double().numpy()
        each = np.isclose(x, values_of(known)) if isinstance(known, Choice) else x
        each = each[:, each.std(0) > 0].astype(float)
        columns.append(each - each.mean(0))
        names += [name] * each.shape[1]
    return np.concatenate(columns, axis=1), names


def share_explained(x, y):
    """Cross-validated R^2 of each column of `y` by ridge regression on `x`."""
    error = np.zeros(y.shape[1])
    for fold in range(FOLDS):
        out = np.arange(len(x)) % FOLDS == fold
        a, level = x[~out], y[~out].mean(0)
        penalty = PENALTY * len(a) * np.eye(x.shape[1])
        weights = np.linalg.solve(a.T @ a + penalty, a.T @ (y[~out] - level))
        error += ((y[out] - level - x[out] @ weights) ** 2).sum(0)
    return 1 - error / (y**2).sum(0)


def readable(family, obs, task):
    """Parameters of which an observation (N, *shape) tells more than chance, and how much.

    The tasks of other episodes, in random order, have what chance explains. More than chance is six
    of their standard deviations above their mean.
    """
    x, (y, names) = features(obs), targets(family, task)
    if not x.shape[1]:
        return {}  # it is the same in every episode
    gen = np.random.default_rng(1)
    shuffled = np.concatenate([y[gen.permutation(len(y))] for _ in range(SHUFFLES)], axis=1)
    share, *chance = share_explained(x, np.concatenate((y, shuffled), axis=1)).reshape(
        -1, len(names)
    )
    limit = np.mean(chance, axis=0) + 6 * np.std(chance, axis=0)
    return {n: s for n, s, most in zip(names, share, limit, strict=True) if s > most}


def read(family):
    task = sample_tasks(family, EPISODES, torch.Generator().manual_seed(2))
    return readable(family, first_observation(family, task)[:, 0], task)


@pytest.mark.parametrize("name", [*TENSOR, *CHEAP, "lunar-lander"])
def test_no_regression_finds_a_hidden_parameter_in_the_first_observation(name):
    """Cross-validated, on the observation and on random features of it."""
    for package in ("Box2D",) if name == "lunar-lander" else () if name in TENSOR else ("mujoco",):
        pytest.importorskip(package)
    family = make_family(name)
    try:
        assert set(read(family)) == {p for f, p in VISIBLE if f == name}
    finally:
        if hasattr(family, "close"):
            family.close()


class Scattered(Snake):
    """Food anywhere on the board from the start, which shows how large it is."""

    def reset(self, task, noise):
        boards = [dataclasses.replace(self, size=Choice((s,))) for s in self.size.values]
        states = [Snake.reset(board, task, noise) for board in boards]
        which = torch.stack([task.size == s for s in self.size.values])
        mixed = (torch.stack(x) for x in zip(*states, strict=True))
        return type(states[0])(
            *((x * which.view(*which.shape[:2], *[1] * (x.dim() - 2))).sum(0) for x in mixed)
        )


def test_the_regression_finds_what_is_there():
    assert set(read(Scattered())) == {"size"}
