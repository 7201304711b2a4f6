"""The learned baseline: its fit, the gradient of its features, and a run that trains it."""

import dataclasses

import numpy as np
import pytest
import torch
from agents_reference import (
    POISON,
    discounted_sum_by_definition,
    finite_difference,
    gae_by_definition,
    gradient,
    living_steps,
)
from small import small
from torch.testing import assert_close

from metarl.agents.learners.gradient_agent import InnerRule
from metarl.agents.networks.distributions import Categorical
from metarl.agents.rollouts.learned_baseline import learned_baseline, make_baseline, value_loss
from metarl.agents.rollouts.rollout import Rollout
from metarl.envs import make_family
from metarl.training.meta_train import new_agent

LENGTHS, T, GAMMA = [[6, 2, 4], [5, 5, 1]], 6, 0.9
N, B = len(LENGTHS), len(LENGTHS[0])
ALIVE = living_steps(LENGTHS, T)
RIDGE = 1e-5


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def some_value(features=3, size=2):
    """Weights of few features, so that a fit leaves something."""
    weight, bias = (torch.randn(features, *s, generator=gen()).double() for s in ((size,), ()))
    return {"weight": weight, "bias": bias}


def some_rollout(poison=POISON, mask=ALIVE):
    """Rewards and observations of which some are beyond what is clipped; poisoned padding."""
    shape, dead = mask.shape, mask == 0
    obs = 6 * torch.randn(*shape, 2, generator=gen(1)).double()
    rew = torch.randn(shape, generator=gen(2)).double() * mask  # 0 after an episode's end
    obs[dead] = poison
    none = torch.zeros(shape)
    return Rollout(obs, none, none, rew, mask, Categorical(none.unsqueeze(-1)))


def fit_by_lstsq(value, obs, ret, mask):
    """Ridge regression of one task after another; the ridge enters as rows of data."""
    val = np.zeros(ret.shape)
    weight, bias = value["weight"].numpy(), value["bias"].numpy()
    scale = 255 if obs.dtype == torch.uint8 else 1
    for n in range(len(ret)):
        rows, target, where = [], [], []
        for t, b in np.ndindex(*ret.shape[1:]):
            if mask[n, t, b]:
                seen = np.clip(obs[n, t, b].double().numpy().reshape(-1) / scale, -10, 10)
                clock = t / 100
                rows.append([*np.tanh(weight @ seen + bias), clock, clock**2, clock**3, 1.0])
                target.append(float(ret[n, t, b]))
                where.append((n, t, b))
        design = np.concatenate([rows, (RIDGE * len(rows)) ** 0.5 * np.eye(len(rows[0]))])
        response = np.concatenate([target, np.zeros(len(rows[0]))])
        coefficient = np.linalg.lstsq(design, response, rcond=None)[0]
        for place, one in zip(where, np.array(rows) @ coefficient, strict=True):
            val[place] = one
    return torch.tensor(val)


@pytest.mark.parametrize("kind", ["vector", "bytes"])
def test_the_baseline_is_a_ridge_regression_on_features_and_time_in_each_task(kind):
    obs = some_rollout().obs
    if kind == "bytes":
        obs = torch.randint(256, (*ALIVE.shape, 2, 3), generator=gen(1), dtype=torch.uint8)
    ret = torch.randn(ALIVE.shape, generator=gen(2)).double()
    ret[ALIVE == 0] = POISON
    value = some_value(size=6 if kind == "bytes" else 2)
    got = learned_baseline(value, obs, ret, ALIVE)
    want = fit_by_lstsq(value, obs, ret, ALIVE)
    assert_close(got * ALIVE, want * ALIVE, rtol=1e-6, atol=1e-8)
    assert (want * ALIVE - ret * ALIVE).abs().max() > 0.1  # no data that any features fit


def test_the_loss_is_the_share_of_variance_that_the_fit_leaves():
    value, data = some_value(), some_rollout()
    ret = discounted_sum_by_definition(data.rew, GAMMA)
    val = fit_by_lstsq(value, data.obs, ret, data.mask)
    shares = []
    for n in range(N):
        valid = data.mask[n] > 0
        target, rest = ret[n][valid], (ret - val)[n][valid]
        shares.append(rest.square().mean() / target.var(correction=0))
    assert_close(value_loss(value, data, GAMMA), torch.stack(shares).mean(), rtol=1e-5, atol=0)
    assert 0.05 < value_loss(value, data, GAMMA) < 0.95


def test_the_gradient_of_the_loss_matches_finite_differences():
    data = some_rollout()
    got = gradient(lambda v: value_loss(v, data, GAMMA), some_value())
    want = finite_difference(lambda v: value_loss(v, data, GAMMA), some_value())
    assert all(g.abs().max() > 1e-3 for g in got.values())
    assert_close(got, want, rtol=1e-5, atol=1e-8)


def test_padding_has_no_part_in_the_loss_or_its_gradient():
    for f in (
        lambda p: value_loss(some_value(), some_rollout(p), GAMMA),
        lambda p: gradient(lambda v: value_loss(v, some_rollout(p), GAMMA), some_value()),
    ):
        assert_close(f(POISON), f(-3.0), rtol=1e-12, atol=1e-12)


def normalised(adv, mask):
    """Mean 0 and standard deviation 1 over each task's valid steps, one task after another."""
    out = torch.zeros_like(adv)
    for n in range(len(adv)):
        valid = mask[n] > 0
        each = adv[n][valid]
        out[n][valid] = (each - each.mean()) / each.std(correction=0)
    return out


@pytest.mark.parametrize("gae_lambda", [1.0, 0.5])
@pytest.mark.parametrize("kind", ["learned", "none"])
def test_an_agents_advantages_are_over_the_baseline_of_its_rule(kind, gae_lambda):
    """Plain discounted returns where there is none."""
    world = make_family("point-navigation")
    agent = new_agent(small("point-navigation"), world)
    rule = InnerRule(GAMMA, gae_lambda, baseline=kind)
    agent = dataclasses.replace(agent, rule=rule, value=some_value() if kind == "learned" else {})
    data = some_rollout()
    ret = discounted_sum_by_definition(data.rew, GAMMA)
    val = fit_by_lstsq(some_value(), data.obs, ret, data.mask) if kind == "learned" else 0 * ret
    adv = gae_by_definition(data.rew, val, data.mask, GAMMA, gae_lambda)
    if kind == "none" and gae_lambda == 1.0:
        assert_close(adv, ret)
    got = agent.batch(data).adv.view(ALIVE.shape)
    assert_close(got, normalised(adv, data.mask), rtol=1e-5, atol=1e-7)


def test_advantages_are_data_though_features_take_part_in_autograd():
    value = {k: w.requires_grad_() for k, w in some_value().items()}
    data = some_rollout()
    got = make_baseline("learned", value)(data.obs, data.rew, data.mask)
    assert not got.requires_grad
    assert value_loss(value, data, GAMMA).requires_grad


@pytest.mark.parametrize("level", [0.0, 1.0, 100.0])
def test_a_task_of_constant_returns_does_not_drown_the_others(level):
    """It has no variance to explain, and the ridge leaves a little of its mean."""
    data = some_rollout()
    same = data._replace(rew=level * data.mask)
    assert 0 <= value_loss(some_value(), same, 0.0) < 0.01
    slope = gradient(lambda v: value_loss(v, same, 0.0), some_value())
    other = gradient(lambda v: value_loss(v, data, 0.0), some_value())
    for k, g in slope.items():
        assert g.norm() < 0.01 * other[k].norm()
