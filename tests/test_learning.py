"""The shipped settings learn: shortened runs to the project's own thresholds, on unseen tasks."""

import dataclasses

import pytest
import torch

import metarl
from metarl.config.published import ALGORITHMS

pytestmark = pytest.mark.learning


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def trained(name, iterations, algo="promp", tasks=40):
    family = metarl.make_family(name)
    cfg = dataclasses.replace(metarl.preset(name, algo), iterations=iterations)
    *_, state = metarl.meta_train(cfg, family)
    return metarl.evaluate(state.agent, family, tasks=tasks, seed=1)


def test_point_navigation_reaches_hidden_goals():
    result = trained("point-navigation", 120)
    assert result.mean[0] < -30  # doesn't know the goal
    assert result.mean[1] >= -15
    assert result.mean[3] >= -10


def test_cartpole_gets_what_no_policy_gets_that_does_not_adapt():
    bound = metarl.make_family("cartpole").bound()
    result = trained("cartpole", 24)
    assert result.mean[0] < bound < result.mean[1]
    assert result.mean[3] > 1.5 * bound  # the oracle gets 2.6 times the bound


def test_adapted_agents_reach_most_of_what_an_oracle_gets():
    result = trained("forager", 150)
    assert result.mean[3] >= 0.85 * result.oracle.mean()
    assert result.gain_ci95[3, 0] > 0


@pytest.mark.parametrize("algo", [a for a in ALGORITHMS if "memory" not in ALGORITHMS[a].settings])
def test_every_algorithm_learns_to_adapt(algo):
    result = trained("bandit", 40, algo)
    assert result.gain_ci95[3, 0] > 2  # pulls in 10 that pay more than before; an oracle: 3.3


@pytest.mark.parametrize("algo", ["rl2", "fwp"])
def test_a_memory_learns_within_its_first_episode(algo):
    assert trained("bandit", 120, algo, tasks=500).mean[0] > 6  # at random 5; Gittins indices: 6.6
