"""Meta-gradients of estimators where they are known exactly.

What an estimator is right about depends on what is asked. The gradient of the return after an
*expected* inner step needs the Hessian of the expected return: unbiased in DiCE, short of a term
in the log likelihood, and of products across time in lvc. The gradient of the expected return
after a step from *sampled* episodes needs the log likelihood, and a term of its own: E-MAML.
"""

import math
from statistics import NormalDist
from types import SimpleNamespace

import pytest
import torch
from exact_mdp import (
    ACTIONS,
    MDP,
    STATES,
    WEIGHT,
    all_episodes,
    expectation,
    expected_return,
    log_probability,
    random_mdp,
    returns_to_go,
    scores,
    tabular_agent,
)
from torch.testing import assert_close

from metarl.agents.inner.estimators import ESTIMATORS
from metarl.agents.learners.gradient_agent import InnerRule
from metarl.agents.networks.policy import act_dist
from metarl.agents.rollouts.advantages import discounted_sum, no_baseline
from metarl.agents.rollouts.batch import clipped_surrogate, make_batch
from metarl.agents.rollouts.rollout import collect
from metarl.config.published import ALGORITHMS
from metarl.config.settings import TrainConfig
from metarl.envs import sample_tasks
from metarl.envs.bandits.tabular_mdp import TabularMDP
from metarl.outer.inner_loop import Experience
from metarl.outer.meta_objective import exploration_loss, meta_loss

N = 3
STEP = 0.7  # of the inner step


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def some_logits():
    return torch.randn(ACTIONS, STATES, generator=gen(1)).double().requires_grad_()


def exact_path(mdp, logits, horizon, steps):
    """Logits (N, A, S) before and after each step along the gradient of the expected return."""
    path = [logits.expand(len(mdp.reward), -1, -1)]
    for _ in range(steps):
        total = expected_return(mdp, path[-1], horizon).sum()
        (slope,) = torch.autograd.grad(total, path[-1], create_graph=True)
        path.append(path[-1] + STEP * slope)
    return path


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("horizon", [1, 2, 3])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_meta_gradient_through_expected_steps_is_exact_in_dice_alone(name, horizon, steps):
    """Of the mean over processes of the return after adaptation, by `meta_loss` of an agent."""
    mdp, ways = random_mdp(N, gen()), all_episodes(horizon)
    logits = some_logits()
    path = exact_path(mdp, logits, horizon, steps)
    (want,) = torch.autograd.grad(expected_return(mdp, path[-1], horizon).mean(), logits)
    data = [expectation(mdp, fast.detach(), ways) for fast in path]
    agent = tabular_agent(logits, STEP, InnerRule(estimator=name))
    cfg = TrainConfig(inner_steps=steps, clip=0.0, inner_kl=0.0)
    loss = meta_loss(cfg, agent, Experience(None, [], data[:-1], data[-1], []))
    (got,) = torch.autograd.grad(-loss, logits)
    if name == "dice" or (name, horizon) == ("lvc", 1):
        assert_close(got, want, rtol=0, atol=1e-10)
    else:
        assert (got - want).norm() > 1e-3 * want.norm()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_log_likelihood_and_e_mamls_term_are_exact_after_a_step_from_one_sampled_episode(name):
    """By the losses of an agent, each episode a task that is as heavy as it is likely.

    The others would count twice that the weights chose the episode.
    M = E_episode J(theta + STEP sum_t G_t grad log pi(a_t | s_t)), enumerated.
    """
    horizon, whole = 2, random_mdp(1, gen())
    ways = all_episodes(horizon)
    count = ways.state.shape[1]
    mdp = MDP(*(x.expand(count, *x.shape[1:]) for x in whole))
    logits = some_logits()
    togo = returns_to_go(whole, ways)[0]
    step = (togo.unsqueeze(-1) * scores(logits, ways)).sum(0).view(count, ACTIONS, STATES)
    after = expected_return(mdp, logits + STEP * step, horizon)
    likely = log_probability(whole, logits, ways).exp()[0]
    (want,) = torch.autograd.grad((likely * after).sum(), logits)

    cfg = TrainConfig(**ALGORITHMS["e-maml"].settings)
    everything = expectation(whole, logits.detach(), ways)
    one_each = everything._replace(
        **{
            k: getattr(everything, k).unflatten(1, (horizon, count)).transpose(0, 2).flatten(1, 2)
            for k in ("obs", "act", "logp", "adv")
        },
        weight=torch.ones(count, horizon).double(),
        episodes=1,
    )
    agent = tabular_agent(logits, STEP, InnerRule(estimator=name))
    path = [agent.fast(count)]
    path.append(agent.inner_step(path[-1], one_each, 0))
    query = expectation(mdp, path[-1][WEIGHT].detach(), ways)
    lost = clipped_surrogate(act_dist(agent.policy, path[-1], query.obs), query, cfg.clip)
    ret = after.detach().unsqueeze(1)
    played = SimpleNamespace(
        episode_return=lambda: ret, rew=ret.unsqueeze(1), mask=torch.ones_like(ret).unsqueeze(1)
    )
    data = Experience(None, [played, played], [one_each], query, path)
    # Its credit is normalised over tasks, and in units of an episode's number of actions.
    unit = horizon * after.std(correction=0).detach()
    credit = unit * exploration_loss(cfg, agent, data, path)
    total = (likely.detach() * (lost + cfg.exploration * credit)).sum()
    (got,) = torch.autograd.grad(-total, logits)
    if name == "log-likelihood":
        assert_close(got, want, rtol=1e-6, atol=1e-7)
    else:
        assert (got - want).norm() > 1e-3 * want.norm()


def test_the_preset_of_e_maml_takes_the_estimator_that_is_exact_with_its_term():
    assert ALGORITHMS["e-maml"].settings["estimator"] == "log-likelihood"


def sampled_meta_gradients(name, seed, replicates=20_000, episodes=4):
    """Estimates (R, 4) from batches of the library's own, and the exact meta-gradient (4,).

    The outer gradient is fixed to the exact one: estimated, it would bias every rule alike, since
    it is not linear in the step that led to it.
    """
    family = TabularMDP(states=STATES, actions=ACTIONS, horizon=3)
    task = type(one := sample_tasks(family, 1, gen(7)))(*(x.double() for x in one))
    reward, move = family.tables(task)
    mdp = MDP(reward.view(1, STATES, ACTIONS), move.view(1, STATES, ACTIONS, STATES))
    logits = some_logits()
    after = exact_path(mdp, logits, family.horizon, steps=1)[-1]
    ahead = after.detach().requires_grad_()
    (outer,) = torch.autograd.grad(expected_return(mdp, ahead, family.horizon).sum(), ahead)
    (want,) = torch.autograd.grad((outer * after).sum(), logits)

    many = type(task)(*(x.expand(replicates, -1) for x in task))
    rule = InnerRule(gamma=1.0, baseline="none", estimator=name)
    # The loss of a batch is a mean over steps, a return their sum.
    agent = tabular_agent(logits.detach(), STEP * family.horizon, rule)
    data = collect(agent.policy, agent.params, family, many, episodes, gen(seed))
    raw = discounted_sum(data.rew, 1.0).flatten(1, 2)  # not normalised, which would bias all
    batch = make_batch(data, 1.0, 1.0, no_baseline)._replace(adv=raw)
    start = agent.fast(replicates)
    moved = agent.inner_step(start, batch, 0)
    (each,) = torch.autograd.grad((outer * moved[WEIGHT]).sum(), start[WEIGHT])
    return each.flatten(1), want.flatten()


def outside(sample, want):
    """Whether the mean's 99 % interval leaves out the exact number in some coordinate."""
    z = NormalDist().inv_cdf(1 - 0.01 / (2 * want.numel()))  # Bonferroni: 99 % for all at once
    error = sample.std(0) / math.sqrt(len(sample))
    return bool(((sample.mean(0) - want).abs() > z * error).any())


def test_from_sampled_batches_dice_alone_is_unbiased_and_lvc_has_less_variance():
    dice, want = sampled_meta_gradients("dice", seed=0)
    lvc, _ = sampled_meta_gradients("lvc", seed=0)
    biased, _ = sampled_meta_gradients("log-likelihood", seed=0)
    assert not outside(dice, want)
    assert outside(lvc, want)
    assert outside(biased, want)
    assert (lvc.std(0) < dice.std(0)).all()
