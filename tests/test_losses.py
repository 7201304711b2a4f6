"""Losses against loops over tasks and steps, and against what they estimate."""

import pytest
import torch
from agents_reference import (
    Walk,
    finite_difference,
    gradient,
    random_batch,
    random_params,
    surrogate,
    task_row,
    torch_distribution,
)
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch.testing import assert_close

from metarl.agents.inner.inner_update import per_task
from metarl.agents.networks.distributions import Gaussian
from metarl.agents.networks.policy import MLP, act_dist
from metarl.agents.rollouts.advantages import advantages
from metarl.agents.rollouts.batch import Batch, clipped_surrogate, make_batch, mean_kl
from metarl.agents.rollouts.rollout import collect
from metarl.envs import sample_tasks
from metarl.envs.classic_control.point_navigation import PointNavigation

N, M = 3, 6


SPACES = {
    "gaussian": Box(-0.5, 0.5, (2,)),
    "categorical": Discrete(3),
    "several": MultiDiscrete([3, 2]),
}


@pytest.fixture(params=SPACES)
def setup(request):
    """A policy, the weights that collected the data (each task its own), and the data."""
    policy = MLP(Box(-1, 1, (2,)), SPACES[request.param], (3,))
    gen = torch.Generator().manual_seed(0)
    params = random_params(policy, gen, (N,))
    return policy, params, random_batch(policy, params, gen)


def moved(params):
    """Weights near by, so that ratios lie around 1 on both sides."""
    gen = torch.Generator().manual_seed(1)
    return {k: p + 0.3 * torch.randn(p.shape, generator=gen).to(p.dtype) for k, p in params.items()}


def each_step(policy, params, batch):
    """Task, step, log probability, by torch.distributions and one task at a time; no padding."""
    for n in range(N):
        own = {k: p[n] for k, p in params.items()}
        dist = act_dist(policy, own, batch.obs[n : n + 1])
        logp = torch_distribution(dist).log_prob(batch.act[n : n + 1])[0]
        for m in range(M - n):  # task n has n steps of padding
            yield n, m, logp[m]


def test_surrogate_is_the_mean_of_ratio_times_advantage(setup):
    policy, params, batch = setup
    new, want = moved(params), torch.zeros(N).double()
    for n, m, logp in each_step(policy, new, batch):
        want[n] -= (logp - batch.logp[n, m]).exp() * batch.adv[n, m] / (M - n)
    assert_close(surrogate(policy, new, batch), want)


@pytest.mark.parametrize("clip", [0.1, 0.3])
def test_clipped_surrogate_takes_the_pessimistic_side(setup, clip):
    policy, params, batch = setup
    new, want, clipped = moved(params), torch.zeros(N).double(), 0
    for n, m, logp in each_step(policy, new, batch):
        ratio, adv = (logp - batch.logp[n, m]).exp().item(), batch.adv[n, m].item()
        inside = min(max(ratio, 1 - clip), 1 + clip)
        clipped += inside * adv < ratio * adv
        want[n] -= min(ratio * adv, inside * adv) / (M - n)
    assert clipped  # else the data would not tell clipping from none
    assert_close(clipped_surrogate(act_dist(policy, new, batch.obs), batch, clip), want)


def test_clip_zero_does_not_clip(setup):
    policy, params, batch = setup
    new = moved(params)
    got = clipped_surrogate(act_dist(policy, new, batch.obs), batch, 0.0)
    assert_close(got, surrogate(policy, new, batch))


def test_at_the_collecting_weights_the_gradient_is_the_score_function_estimate(setup):
    """d/d params of -mean(logp adv), the policy gradient, one task at a time."""
    policy, params, batch = setup

    def score_function(p):
        return sum(-logp * batch.adv[n, m] / (M - n) for n, m, logp in each_step(policy, p, batch))

    def loss(p):
        return surrogate(policy, p, batch).sum()

    def clipped(p):
        return clipped_surrogate(act_dist(policy, p, batch.obs), batch, 0.2).sum()

    want = gradient(score_function, params)
    assert_close(gradient(loss, params), want)
    assert_close(gradient(clipped, params), want)


def test_differentiated_twice_the_surrogate_is_still_the_expected_reward():
    """One step, all actions, each weighed by its probability: then it is -sum_a pi(a) rew(a).

    A loss of logp * adv has the same gradient but loses that the weights also chose the data.
    """
    policy = MLP(Box(-1, 1, (2,)), Discrete(3), ())
    gen = torch.Generator().manual_seed(0)
    params = random_params(policy, gen)
    rew = torch.tensor([[1.0, -2.0, 0.5]]).double()
    obs = torch.ones(1, 3, 2).double()
    act = torch.arange(3).unsqueeze(0)
    dist = act_dist(policy, params, obs)
    logp = dist.log_prob(act)
    batch = Batch(obs, act, logp, rew, logp.exp(), dist, 1)

    def expected(weight, bias):
        return -((obs[0, 0] @ weight.T + bias).softmax(-1) * rew[0]).sum()

    def estimated(weight, bias):
        return surrogate(policy, {"layers.0.weight": weight, "layers.0.bias": bias}, batch).sum()

    want = torch.autograd.functional.hessian(expected, tuple(params.values()))
    assert max(h.abs().max() for row in want for h in row) > 0.1
    assert_close(torch.autograd.functional.hessian(estimated, tuple(params.values())), want)


def test_mean_kl_is_that_of_torch_from_the_collecting_policy(setup):
    policy, params, batch = setup
    new = act_dist(policy, moved(params), batch.obs)
    each = torch.distributions.kl_divergence(
        torch_distribution(batch.dist), torch_distribution(new)
    )
    want = torch.stack([each[n, : M - n].mean() for n in range(N)])
    assert_close(mean_kl(new, batch), want)


def test_mean_kl_and_its_gradient_are_zero_at_the_collecting_weights(setup):
    policy, params, batch = setup

    def kl(p):
        return mean_kl(act_dist(policy, p, batch.obs), batch).sum()

    zero = {k: torch.zeros_like(p) for k, p in params.items()}
    assert_close(kl(params), torch.zeros(()).double())
    assert_close(gradient(kl, params), zero)
    new = moved(params)
    assert_close(gradient(kl, new), finite_difference(kl, new), rtol=1e-5, atol=1e-7)


def test_each_task_has_the_loss_that_it_has_alone(setup):
    policy, params, batch = setup
    new = moved(params)
    dist = act_dist(policy, new, batch.obs)
    for n in range(N):
        one = task_row(batch, n)
        own = {k: p[n] for k, p in new.items()}
        alone = act_dist(policy, own, one.obs)
        assert_close(surrogate(policy, new, batch)[n], surrogate(policy, own, one)[0])
        assert_close(clipped_surrogate(dist, batch, 0.2)[n], clipped_surrogate(alone, one, 0.2)[0])
        assert_close(mean_kl(dist, batch)[n], mean_kl(alone, one)[0])


@pytest.mark.parametrize("own_weights", [False, True])
def test_a_batch_is_the_rollout_flattened_with_equal_weight_for_each_living_step(own_weights):
    family = PointNavigation(horizon=5)
    policy = MLP(family.observation_space, family.action_space, (4,))
    gen = torch.Generator().manual_seed(0)
    params = policy.initial(gen)
    task = sample_tasks(family, N, gen)._replace(goal_x=torch.tensor([[0.0], [0.3], [0.01]]))
    data = collect(policy, per_task(params, N) if own_weights else params, family, task, 2, gen)
    data = data._replace(mask=data.mask.clone())
    data.mask[0, 2:, 1] = 0
    batch = make_batch(data, 0.9, 0.8)
    adv = advantages(data, 0.9, 0.8)
    assert isinstance(batch.dist, Gaussian)
    for n in range(N):
        steps = [(t, b) for t in range(5) for b in range(2)]
        for m, (t, b) in enumerate(steps):
            assert_close(batch.obs[n, m], data.obs[n, t, b])
            assert_close(batch.act[n, m], data.act[n, t, b])
            assert_close(batch.logp[n, m], data.logp[n, t, b])
            assert_close(batch.adv[n, m], adv[n, t, b])
            assert_close(batch.weight[n, m], data.mask[n, t, b] / data.mask[n].sum())
    assert_close(batch.weight.sum(1), torch.ones(N))
    assert_close(batch.dist.log_prob(batch.act)[batch.weight > 0], batch.logp[batch.weight > 0])


def test_a_batch_of_several_actions_keeps_their_distribution():
    family = Walk(discrete="several")
    policy = MLP(family.observation_space, family.action_space, (4,))
    gen = torch.Generator().manual_seed(0)
    params = {k: 9 * p for k, p in policy.initial(gen).items()}
    data = collect(policy, params, family, sample_tasks(family, N, gen), 2, gen)
    batch = make_batch(data, 0.9, 0.8)
    assert batch.act.shape == (N, 12, 2)
    assert batch.dist.logits.shape == (N, 12, 2, 3)
    valid = batch.weight > 0
    assert_close(batch.dist.log_prob(batch.act)[valid], batch.logp[valid])
    new = act_dist(policy, moved(params), batch.obs)
    each = torch.distributions.kl_divergence(
        torch_distribution(batch.dist), torch_distribution(new)
    )
    assert_close(mean_kl(new, batch), (each * batch.weight).sum(-1))


def test_padding_cannot_overflow_the_ratio():
    """At the zeros of the padding a narrow policy of many dimensions has a density past e^88."""
    n, m, size = 2, 3, 17
    obs, act = torch.zeros(n, m, 1), torch.zeros(n, m, size)
    dist = Gaussian(torch.zeros(n, m, size), torch.full((size,), -7.0))
    weight = torch.tensor([[0.5, 0.5, 0.0]]).expand(n, m)
    logp = dist.log_prob(act) * (weight > 0)
    batch = Batch(obs, act, logp, torch.ones(n, m), weight, dist, m)
    log_std = torch.full((size,), -7.0, requires_grad=True)
    loss = clipped_surrogate(Gaussian(dist.mean, log_std), batch, 0.0)
    assert_close(loss, -torch.ones(n))
    (slope,) = torch.autograd.grad(loss.sum(), log_std)
    assert slope.isfinite().all()
