"""Tiny decision processes of which everything can be written down: all episodes, all expectations.

States and actions are 0 and 1, the first state is 0, episodes last T steps; N processes at once.
The policy is tabular: observations are one-hot, and the weights (A, S) hold the logits.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from gymnasium.spaces import Discrete, MultiBinary
from torch import Tensor
from torch.nn.functional import one_hot

from metarl.agents.learners.gradient_agent import Agent, InnerRule
from metarl.agents.networks.policy import MLP, Params, act_dist
from metarl.agents.rollouts.advantages import discounted_sum, gae
from metarl.agents.rollouts.batch import Batch

STATES = ACTIONS = 2
WEIGHT = "layers.0.weight"


class MDP(NamedTuple):
    reward: Tensor  # (N, S, A)
    move: Tensor  # (N, S, A, S) probability of the next state


class Episodes(NamedTuple):
    """Each way in which T steps can go, E of them; the same for all processes."""

    state: Tensor  # (T, E)
    act: Tensor  # (T, E)
    after: Tensor  # (T, E) next state


def random_mdp(n: int, gen: torch.Generator) -> MDP:
    move = torch.rand(n, STATES, ACTIONS, STATES, generator=gen).double()
    reward = torch.randn(n, STATES, ACTIONS, generator=gen).double()
    return MDP(reward, move / move.sum(-1, keepdim=True))


def tabular_policy() -> MLP:
    return MLP(MultiBinary(STATES), Discrete(ACTIONS), ()).double()


def tabular_params(logits: Tensor) -> Params:
    """Of logits (A, S) or (N, A, S)."""
    return {WEIGHT: logits, "layers.0.bias": logits.new_zeros(logits.shape[:-1])}


def tabular_agent(logits: Tensor, step: float, rule: InnerRule) -> Agent:
    """Whose inner step moves the logits (A, S) alone."""
    params = tabular_params(logits)
    size = {k: logits.new_tensor(step if k == WEIGHT else 0.0) for k in params}
    return Agent(tabular_policy(), params, size, rule)


def log_policy(logits: Tensor) -> Tensor:
    """log pi(a | s), (..., S, A)."""
    return logits.mT.log_softmax(-1)


def values(mdp: MDP, logits: Tensor, horizon: int) -> Tensor:
    """V (N, T + 1, S) under logits (A, S) or (N, A, S), by dynamic programming."""
    policy = log_policy(logits).exp()
    value = [mdp.reward.new_zeros(len(mdp.reward), STATES)]
    for _ in range(horizon):
        q = mdp.reward + (mdp.move @ value[-1].view(-1, 1, STATES, 1)).squeeze(-1)
        value.append((policy * q).sum(-1))
    return torch.stack(value[::-1], dim=1)


def expected_return(mdp: MDP, logits: Tensor, horizon: int) -> Tensor:
    """J (N,), undiscounted."""
    return values(mdp, logits, horizon)[:, 0, 0]


def all_episodes(horizon: int) -> Episodes:
    episodes = []
    for choice in itertools.product(range(ACTIONS), range(STATES), repeat=horizon):
        acts, after = choice[::2], choice[1::2]
        episodes.append(((0, *after[:-1]), acts, after))
    return Episodes(*(torch.tensor(x).T for x in zip(*episodes, strict=True)))


def log_probability(mdp: MDP, logits: Tensor, ways: Episodes) -> Tensor:
    """Of each episode, (N, E); logits (A, S) or (N, A, S)."""
    policy = log_policy(logits).expand(len(mdp.reward), -1, -1)[:, ways.state, ways.act]
    return (policy + mdp.move[:, ways.state, ways.act, ways.after].log()).sum(1)


def rewards(mdp: MDP, ways: Episodes) -> Tensor:
    """(N, T, E)."""
    return mdp.reward[:, ways.state, ways.act]


def expectation(
    mdp: MDP, logits: Tensor, ways: Episodes, val: Tensor | None = None, gae_lambda: float = 1.0
) -> Batch:
    """A batch whose sums are expectations: all episodes, each as heavy as it is likely.

    Args:
        logits: of the collecting policy, (A, S) or (N, A, S).
        val: (N, T, E) baseline, by default none.
    """
    n, (steps, count) = len(mdp.reward), ways.state.shape
    rew = rewards(mdp, ways)
    val = torch.zeros_like(rew) if val is None else val
    adv = gae(rew, val, torch.ones_like(rew), 1.0, gae_lambda)
    likely = log_probability(mdp, logits, ways).exp().unsqueeze(1).expand(-1, steps, -1)
    obs = one_hot(ways.state, STATES).double().expand(n, -1, -1, -1).flatten(1, 2)
    act = ways.act.expand(n, -1, -1).flatten(1, 2)
    dist = act_dist(tabular_policy(), tabular_params(logits.detach()), obs)
    logp = dist.log_prob(act)
    weight = likely.flatten(1, 2).detach()
    return Batch(obs, act, logp, adv.flatten(1, 2), weight, dist, count)


def returns_to_go(mdp: MDP, ways: Episodes) -> Tensor:
    """(N, T, E)."""
    return discounted_sum(rewards(mdp, ways), 1.0)


def scores(logits: Tensor, ways: Episodes) -> Tensor:
    """d log pi(a_t | s_t) / d logits, (T, E, 4), by hand: one-hot action less probabilities."""
    chosen = one_hot(ways.act, ACTIONS) - log_policy(logits).exp()[ways.state]
    here = one_hot(ways.state, STATES)
    return (chosen.unsqueeze(-1) * here.unsqueeze(-2)).flatten(-2)
