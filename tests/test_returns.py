"""Returns, advantages and the baseline against their definitions, with poisoned padding."""

import numpy as np
import pytest
import torch
from agents_reference import (
    POISON,
    baseline_by_lstsq,
    discounted_sum_by_definition,
    gae_by_definition,
    living_steps,
)
from torch.testing import assert_close

from metarl.agents.networks.distributions import Categorical
from metarl.agents.rollouts.advantages import (
    advantages,
    discounted_sum,
    gae,
    linear_baseline,
    normalize,
)
from metarl.agents.rollouts.rollout import Rollout

T = 7
LENGTHS = [[7, 3, 1], [2, 7, 7], [5, 4, 6]]  # ended by the clock, by the game, at once
ALIVE = living_steps(LENGTHS, T)
SHAPE = tuple(ALIVE.shape)
PADDING = ALIVE == 0


def normal(*tail, seed=0):
    return torch.randn(*SHAPE, *tail, generator=torch.Generator().manual_seed(seed)).double()


def poisoned(x, poison=POISON):
    x = x.clone()
    x[PADDING] = poison
    return x


def clean(x):
    return poisoned(x, 0.0)


discounts = pytest.mark.parametrize("gamma", [1.0, 0.9, 0.0])


@discounts
def test_discounted_sum_matches_its_definition(gamma):
    x = normal()
    assert_close(discounted_sum(x, gamma), discounted_sum_by_definition(x, gamma))


@discounts
@pytest.mark.parametrize("gae_lambda", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("poison", [POISON, float("nan")])
def test_gae_matches_its_definition(gamma, gae_lambda, poison):
    rew, val = normal(seed=1), normal(seed=2)
    want = gae_by_definition(rew, val, ALIVE, gamma, gae_lambda)
    got = gae(poisoned(rew, poison), poisoned(val, poison), ALIVE, gamma, gae_lambda)
    assert_close(got, want)
    assert (got[PADDING] == 0).all()


def test_gae_with_lambda_one_is_the_return_minus_the_baseline():
    rew, val = clean(normal(seed=1)), normal(seed=2)
    want = clean(discounted_sum_by_definition(rew, 0.9) - val)
    assert_close(gae(rew, val, ALIVE, 0.9, 1.0), want)


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("ridge", [1e-5, 0.1])
def test_the_baseline_is_the_ridge_regression_of_each_task(image, ridge):
    """Observations beyond +-10 are clipped, and images (5-D and up) have no squares."""
    obs = 6 * normal(2, 1) if image else 6 * normal(2)
    ret = normal(seed=1)
    assert (obs.abs() > 10).any()
    got = linear_baseline(poisoned(obs), poisoned(ret), ALIVE, ridge)
    assert got.shape == SHAPE
    assert_close(clean(got), baseline_by_lstsq(obs, ret, ALIVE, ridge), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "shape",
    [
        (4, 10, 10),
        (1, 16, 16),  # 256 numbers: all of them
        (2, 3, 60),  # fewer rows than cells
        (33, 5, 7),  # so many channels that each has 3 x 3 cells
        (600, 2, 2),  # and here one
        (20, 20),  # one channel
        (2, 2, 10, 10),  # 4 channels
        (512,),  # all numbers and their squares
        (700,),  # 512 means
    ],
)
def test_the_baseline_of_large_observations_sees_means(shape):
    """A ridge as large as this tells features apart, though there are more of them than steps."""
    obs, ret = 6 * normal(*shape), normal(seed=1)
    got = linear_baseline(poisoned(obs), poisoned(ret), ALIVE, 0.1)
    assert_close(clean(got), baseline_by_lstsq(obs, ret, ALIVE, 0.1), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 3), (4, 12, 12)])
def test_the_baseline_sees_bytes_as_their_255th_part(shape):
    obs = torch.randint(256, (*SHAPE, *shape), generator=torch.Generator().manual_seed(0)).byte()
    ret = normal(seed=1)
    got = linear_baseline(obs, ret, ALIVE, 0.1)
    assert_close(clean(got), baseline_by_lstsq(obs, ret, ALIVE, 0.1), rtol=1e-4, atol=1e-5)
    assert_close(got, linear_baseline(obs.double() / 255, ret, ALIVE, 0.1), rtol=1e-4, atol=1e-5)


def test_the_baseline_of_float32_data_is_solved_in_float64():
    """Normal equations in float32 would be off by 0.07 here, and those in float64 by 0.00003."""
    step = torch.randn(2, 100, 3, 2, generator=torch.Generator().manual_seed(0))
    obs = 0.01 * step.cumsum(1)
    ret = torch.arange(100).view(1, -1, 1) - 1000 + 10 * obs.sum(-1)
    got = linear_baseline(obs, ret, torch.ones(2, 100, 3))
    want = baseline_by_lstsq(obs.double(), ret.double(), torch.ones(2, 100, 3), 1e-5)
    assert got.dtype == torch.float32
    assert_close(got, want.float(), rtol=0, atol=1e-3)


def test_longer_padding_changes_no_value():
    """The ridge is in units of valid steps: padded and trimmed rollouts mean the same."""
    obs, ret = normal(2), normal(seed=1)
    longer = [torch.cat((x, torch.full_like(x[:, :3], POISON)), 1) for x in (obs, ret)]
    mask = torch.cat((ALIVE, torch.zeros_like(ALIVE[:, :3])), 1)
    want = linear_baseline(obs, ret, ALIVE, 0.1)
    got = linear_baseline(*longer, mask, 0.1)
    assert_close(clean(got[:, :T]), clean(want))


def test_more_of_the_same_episodes_change_no_value():
    obs, ret = normal(2), normal(seed=1)
    want = linear_baseline(obs, ret, ALIVE, 0.1)
    twice = linear_baseline(*(torch.cat((x, x), 2) for x in (obs, ret, ALIVE)), 0.1)
    assert_close(clean(twice[:, :, :3]), clean(want))


def test_normalised_advantages_have_mean_zero_and_standard_deviation_one():
    adv = clean(3 * normal() + 5)
    want = torch.zeros_like(adv)
    for n in range(len(adv)):
        valid = adv[n][ALIVE[n] > 0].numpy()
        want[n][ALIVE[n] > 0] = torch.tensor((valid - valid.mean()) / np.std(valid))
    got = normalize(poisoned(adv), ALIVE)
    assert_close(got, want)
    assert (got[PADDING] == 0).all()


def test_equal_advantages_normalise_to_zero():
    assert_close(normalize(torch.full(SHAPE, 0.5).double(), ALIVE), torch.zeros(SHAPE).double())


def test_advantages_compose_returns_baseline_gae_and_normalisation():
    data = rollout()
    gamma, gae_lambda = 0.9, 0.8
    ret = discounted_sum_by_definition(data.rew, gamma)
    val = baseline_by_lstsq(data.obs, ret, ALIVE, 1e-5)
    adv = gae_by_definition(data.rew, val, ALIVE, gamma, gae_lambda)
    got = advantages(data, gamma, gae_lambda)
    assert_close(got, normalize(adv, ALIVE), rtol=1e-5, atol=1e-6)


def test_a_task_does_not_feel_the_data_of_another():
    data = rollout()
    rew, obs = data.rew.clone(), data.obs.clone()
    rew[1] *= 10
    obs[1] += 1
    before, after = (
        advantages(d, 0.9, 0.8) for d in (data, data._replace(rew=rew, obs=clean(obs)))
    )
    assert_close(after[[0, 2]], before[[0, 2]])
    assert not torch.allclose(after[1], before[1])


def rollout():
    """What `collect` promises: 0 in the padding."""
    obs, rew = clean(normal(2)), clean(normal(seed=1))
    act, logp = torch.zeros(SHAPE).long(), torch.zeros(SHAPE).double()
    return Rollout(obs, act, logp, rew, ALIVE, Categorical(torch.zeros(*SHAPE, 2)))
