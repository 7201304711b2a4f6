"""The shipped settings learn: shortened runs to the project's own thresholds, on unseen tasks."""

import dataclasses

import pytest
import torch

import metarl

pytestmark = pytest.mark.learning


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def trained(name, iterations):
    family = metarl.make_family(name)
    cfg = dataclasses.replace(metarl.preset(name, "promp"), iterations=iterations)
    *_, state = metarl.meta_train(cfg, family)
    return metarl.evaluate(state.agent, family, seed=1)


def test_point_navigation_reaches_hidden_goals():
    result = trained("point-navigation", 120)
    assert result.mean[0] < -30  # doesn't know the goal
    assert result.mean[1] >= -15
    assert result.mean[3] >= -10


@pytest.mark.parametrize(("name", "iterations"), [("cartpole", 60), ("forager", 150)])
def test_adapted_agents_reach_most_of_what_an_oracle_gets(name, iterations):
    result = trained(name, iterations)
    assert result.mean[3] >= 0.85 * result.oracle.mean()
    assert result.gain_ci95[3, 0] > 0
