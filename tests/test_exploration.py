"""E-MAML: what is played before adaptation earns credit for the returns after it."""

import dataclasses
import itertools

import pytest
import torch
from agents_reference import finite_difference, gradient, random_params
from gymnasium.spaces import Box, Discrete
from outer_reference import row, some_batch
from torch.testing import assert_close

from metarl.agents.learners.gradient_agent import Agent, InnerRule
from metarl.agents.networks.policy import MLP, act_dist
from metarl.agents.rollouts.batch import Batch
from metarl.agents.rollouts.rollout import Rollout
from metarl.config.presets import preset
from metarl.envs import make_family
from metarl.outer.inner_loop import Experience
from metarl.outer.meta_objective import exploration_loss, meta_loss
from metarl.training.meta_train import meta_train

N = 3


def settings(**more):
    return dataclasses.replace(preset("point-navigation", "e-maml"), **more)


def returns(ret):
    """Rollouts of one step in which the episodes of N tasks have these returns (N, B)."""
    rew = torch.as_tensor(ret).double().unsqueeze(1)
    nothing = torch.zeros_like(rew)
    return Rollout(nothing, nothing, nothing, rew, torch.ones_like(rew), None)


def fixed_data(steps, seed=0):
    """A policy, weights off the collecting ones, data of N tasks of unlike lengths, and a path."""
    gen = torch.Generator().manual_seed(seed)
    policy = MLP(Box(-1, 1, (2,)), Discrete(3), (3,))
    collecting = random_params(policy, gen)
    lengths = [[4, 2], [1, 1], [3, 4]]
    batches = [some_batch(policy, collecting, gen, lengths) for _ in range(steps + 1)]
    rollouts = [returns(torch.randn(N, 4, generator=gen)) for _ in range(steps + 1)]
    slow = {k: 0.9 * p for k, p in collecting.items()}
    agent = Agent(policy, slow, {k: torch.tensor(0.3).double() for k in slow}, InnerRule())
    return agent, Experience(None, rollouts, batches[:-1], batches[-1], [])


def by_definition(agent, params, data, n, k):
    """Log likelihood of all that task n played before step k + 1, one action at a time."""
    batch = row(data.support[k], n)
    total = 0.0
    for m in range(batch.obs.shape[1]):
        if batch.weight[0, m] > 0:
            here = act_dist(agent.policy, params, batch.obs[:, m : m + 1])
            total = total + here.log_prob(batch.act[:, m : m + 1]).sum()
    return total


@pytest.mark.parametrize("multi_step", [False, True])
def test_the_gradient_is_that_of_a_loop_over_tasks_steps_and_actions(multi_step):
    """At the collecting weights, where the likelihood ratio's derivative is the score."""
    steps = 2
    agent, data = fixed_data(steps)
    cfg = settings(inner_steps=steps, multi_step=multi_step)
    gen = torch.Generator().manual_seed(9)
    path = [random_params(agent.policy, gen, (N,)) for _ in range(steps + 1)]
    support = []
    for k, batch in enumerate(data.support):
        logp = act_dist(agent.policy, path[k], batch.obs).log_prob(batch.act)
        support.append(batch._replace(logp=torch.where(batch.weight > 0, logp, -7.0)))
    data = data._replace(support=support)
    flat = {f"{k} {name}": p for k in range(steps + 1) for name, p in path[k].items()}

    def loss(weights):
        path = [{name: weights[f"{k} {name}"] for name in agent.params} for k in range(steps + 1)]
        return exploration_loss(cfg, agent, data, path).sum()

    want = {k: torch.zeros_like(p) for k, p in flat.items()}
    ret = [[r.rew[n].sum().item() / 4 for n in range(N)] for r in data.rollouts]
    for k in range(steps):
        counted = ret[k + 1 :] if multi_step else ret[-1:]
        after = [sum(r[n] for r in counted) / len(counted) for n in range(N)]
        mean = sum(after) / N
        spread = (sum((x - mean) ** 2 for x in after) / N) ** 0.5
        valid = sum(int((data.support[k].weight[n] > 0).sum()) for n in range(N)) / N
        for n in range(N):
            own = {name: p[n] for name, p in path[k].items()}
            score = gradient(lambda p, n=n, k=k: by_definition(agent, p, data, n, k), own)
            for name, g in score.items():
                want[f"{k} {name}"][n] -= (after[n] - mean) / spread * g / valid
    assert_close(gradient(loss, flat), want)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_gradient_through_adaptation_matches_finite_differences(steps):
    agent, data = fixed_data(steps)
    cfg = settings(inner_steps=steps, exploration=2.0)

    def loss(slow):
        return meta_loss(cfg, dataclasses.replace(agent, params=slow), data)

    want = finite_difference(loss, agent.params)
    assert_close(gradient(loss, agent.params), want, rtol=1e-6, atol=1e-8)
    without = dataclasses.replace(cfg, exploration=0.0)
    plain = gradient(
        lambda p: meta_loss(without, dataclasses.replace(agent, params=p), data), agent.params
    )
    assert not torch.allclose(plain["layers.0.weight"], want["layers.0.weight"], atol=1e-3)


REW, AFTER = torch.tensor([1.0, -0.5]).double(), torch.tensor([0.2, 1.0]).double()
PLAYED = torch.tensor(list(itertools.product(range(2), repeat=2)))  # (4, B): all that may be played


def bandit(estimator):
    """An agent with two arms that are equally likely, and all that it may play, each as a task."""
    gen = torch.Generator().manual_seed(1)
    policy = MLP(Box(-1, 1, (1,)), Discrete(2), (3,))
    params = random_params(policy, gen)
    params["layers.1.weight"][1] = params["layers.1.weight"][0]
    params["layers.1.bias"][:] = 0.0
    lr = {k: torch.tensor(2.0).double() for k in params}
    return Agent(policy, params, lr, InnerRule(estimator=estimator))


def adapted(agent, params):
    """Weights after one step on each of the 4 batches of PLAYED, and that data."""
    obs, half = torch.ones(4, 2, 1).double(), torch.full((4, 2), 0.5).double()
    fast = {k: p.expand(4, *p.shape) for k, p in params.items()}
    dist = act_dist(agent.policy, fast, obs)
    logp = dist.log_prob(PLAYED)
    batch = Batch(obs, PLAYED, logp.detach(), REW[PLAYED], half, dist, 2)
    return [fast, agent.inner_step(fast, batch, 0)], batch, logp


def live(params):
    return {k: p.detach().requires_grad_() for k, p in params.items()}


def return_after(agent, fast):
    """Expected reward of one pull with each of the 4 adapted policies; (4,)."""
    return (
        act_dist(agent.policy, fast, torch.ones(4, 1, 1).double()).logits[:, 0].softmax(-1) @ AFTER
    )


def expected_return(agent):
    """Return after adaptation as a function of the weights, over all that may be played."""

    def f(params):
        path, _, logp = adapted(agent, params)
        return (logp.sum(1).exp() * return_after(agent, path[-1])).sum()

    return f


@pytest.mark.parametrize("estimator", ["log-likelihood", "lvc"])
def test_with_it_the_gradient_is_that_of_the_expected_return_after_adaptation(estimator):
    """Every batch of two pulls is enumerated: both arms are equally likely, so each counts 1/4.

    The return's derivative has two terms: by what adaptation makes of the data, and by what data
    there is. With `lvc` the first has a share of the second in it.
    """
    agent = bandit(estimator)
    path, batch, _ = adapted(agent, live(agent.params))
    ret = return_after(agent, path[-1]).detach()

    def loss(params):
        path = adapted(agent, params)[0]
        data = Experience(None, [returns(ret[:, None])] * 2, [batch], batch, path)
        sampling = exploration_loss(settings(), agent, data, path).mean()
        # Undo the units of `exploration_loss`: spread of returns, and actions a task.
        return return_after(agent, path[-1]).mean() - 2 * ret.std(correction=0) * sampling

    want = finite_difference(expected_return(agent), agent.params)
    close = torch.allclose(
        gradient(loss, agent.params)["layers.1.weight"],
        want["layers.1.weight"],
        rtol=1e-5,
        atol=1e-8,
    )
    assert close == (estimator == preset(algo="e-maml").estimator)
    if close:
        assert_close(gradient(loss, agent.params), want, rtol=1e-5, atol=1e-8)


def test_without_inner_steps_there_is_nothing_to_credit():
    cfg = settings(inner_steps=0, iterations=1, tasks=3, episodes=2, hidden=(4,))
    metrics = [
        list(meta_train(dataclasses.replace(cfg, exploration=e), make_family("point-navigation")))[
            -1
        ].metrics
        for e in (0.0, 1.0)
    ]
    assert metrics[0] == metrics[1]
