"""Classical methods for random MDPs: the baselines that RL² was compared with.

Each trial keeps a posterior over reward and transition tables. Before each episode, a planner
computes a policy for it by finite-horizon dynamic programming. Ties between actions are broken at
random.

The published results (Duan et al. 2016, arXiv:1611.02779, table 2) are reproduced, within noise,
with priors that differ from the distribution of the MDPs, the defaults of
github.com/iosband/TabulaRL: mean rewards normal(0, 1) for PSRL and OPSRL, and a nearly flat prior
for the greedy methods. Under the true prior, normal(1, 1) and a flat Dirichlet, untried actions
look better. PSRL then explores more and gets less (133.7 in 10 episodes instead of 137.8), while
`greedy` gets 154 in 10 episodes and 433 in 25, more than any row of the table except trained agents
(RL²: 156.2 and 445.7).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metarl.envs import simulate
from metarl.envs.bandits.tabular_mdp import TabularMDP


class Prior(NamedTuple):
    """Prior of each state and action; the defaults match the family."""

    reward: float = 1.0  # mean of the mean reward
    reward_weight: float = 1.0  # its precision, in observed rewards, whose noise has variance 1
    move_weight: float = 1.0  # Dirichlet concentration of each next state, in observed transitions


TRUE = Prior()
SAMPLING = Prior(reward=0.0)
GREEDY = Prior(reward=0.0, reward_weight=1e-4, move_weight=1e-4)


class Posterior(NamedTuple):
    """Posterior over the tables of N tasks in each of B trials; S states, A actions."""

    reward: Tensor  # (N, B, S * A) mean of the normal posterior of the mean reward
    precision: Tensor  # (N, B, S * A) precision of that posterior
    move: Tensor  # (N, B, S * A, S) Dirichlet concentrations of the next state


Tables = tuple[Tensor, Tensor]  # mean rewards (..., S * A), transitions (..., S * A, S)
Planner = Callable[[Posterior, int, torch.Generator | None], Tensor]  # policy (N, B, T, S)


def before(prior: Prior, like: Tensor, states: int, actions: int) -> Posterior:
    """The posterior before any data; `like` (N, B) gives the shape, device and dtype."""
    pairs = (*like.shape, states * actions)
    return Posterior(
        reward=like.new_full(pairs, prior.reward),
        precision=like.new_full(pairs, prior.reward_weight),
        move=like.new_full((*pairs, states), prior.move_weight),
    )


def after(posterior: Posterior, place: Tensor, act: Tensor, rew: Tensor) -> Posterior:
    """Conjugate update with one episode.

    The last transition isn't counted, since agents that act on T observations don't observe it.

    Args:
        place, act, rew: (N, B, T) state, action and reward of each step.
    """
    states = posterior.move.shape[-1]
    pair = place * (posterior.reward.shape[-1] // states) + act
    precision = posterior.precision.scatter_add(-1, pair, torch.ones_like(rew))
    total = (posterior.precision * posterior.reward).scatter_add(-1, pair, rew)
    transition = pair[..., :-1] * states + place[..., 1:]
    move = posterior.move.flatten(-2).scatter_add(-1, transition, torch.ones_like(rew[..., 1:]))
    return Posterior(total / precision, precision, move.view_as(posterior.move))


def mean(posterior: Posterior) -> Tables:
    """Posterior mean of the tables."""
    return posterior.reward, posterior.move / posterior.move.sum(-1, keepdim=True)


def sample(posterior: Posterior, gen: torch.Generator | None) -> Tables:
    """One posterior sample of the tables."""
    like = posterior.reward
    noise = torch.randn(like.shape, generator=gen, dtype=like.dtype, device=like.device)
    reward = posterior.reward + noise / posterior.precision.sqrt()
    return reward, torch._sample_dirichlet(posterior.move, generator=gen)


def action_values(tables: Tables, horizon: int) -> Tensor:
    """Q-values by backward induction, (..., T, S, A)."""
    reward, move = tables
    states = move.shape[-1]
    value, out = reward.new_zeros(*reward.shape[:-1], states), []
    for _ in range(horizon):
        q = (reward + (move @ value.unsqueeze(-1)).squeeze(-1)).unflatten(-1, (states, -1))
        value = q.amax(-1)
        out.append(q)
    return torch.stack(out[::-1], dim=-3)


def best(q: Tensor, gen: torch.Generator | None) -> Tensor:
    """Best action, (...); ties up to rounding are broken at random."""
    tie_break = torch.rand(q.shape, generator=gen, device=q.device)
    return torch.where(q >= q.amax(-1, keepdim=True) - 1e-5, tie_break, -1).argmax(-1)


def random(posterior: Posterior, horizon: int, gen: torch.Generator | None) -> Tensor:
    """Uniformly random actions."""
    n, b, pairs, states = posterior.move.shape
    shape = (n, b, horizon, states)
    return torch.randint(pairs // states, shape, generator=gen, device=posterior.move.device)


def greedy(posterior: Posterior, horizon: int, gen: torch.Generator | None) -> Tensor:
    """The optimal policy for the posterior mean of the tables."""
    return best(action_values(mean(posterior), horizon), gen)


def epsilon_greedy(
    posterior: Posterior, horizon: int, gen: torch.Generator | None, epsilon: float = 0.1
) -> Tensor:
    """Greedy, with a random action with probability `epsilon`.

    Exploration is sampled in advance for each time and state, since an episode visits each time
    once. Tried: 0.05, 0.1, 0.2 and 0.3.
    """
    act = greedy(posterior, horizon, gen)
    explore = torch.rand(act.shape, generator=gen, device=act.device) < epsilon
    return torch.where(explore, random(posterior, horizon, gen), act)


def psrl(posterior: Posterior, horizon: int, gen: torch.Generator | None) -> Tensor:
    """The optimal policy for one posterior sample of the tables, kept for a whole episode.

    Source: Osband et al. 2013 (arXiv:1306.0940), algorithm PSRL.
    """
    return best(action_values(sample(posterior, gen), horizon), gen)


def opsrl(
    posterior: Posterior, horizon: int, gen: torch.Generator | None, samples: int = 20
) -> Tensor:
    """The action with the highest value over `samples` posterior samples of the tables.

    Values are computed for each sample separately. Tried: 2, 5, 10 and 20 samples; more are better.
    Also tried: the optimal policy of the sample with the highest initial value, which is no better
    than PSRL.

    Source: `OptimisticPSRL` of github.com/iosband/TabulaRL (Osband and Van Roy, arXiv:1607.00215).
    """
    q = action_values(sample(posterior, gen), horizon)
    for _ in range(samples - 1):
        q = torch.maximum(q, action_values(sample(posterior, gen), horizon))
    return best(q, gen)


PLANNERS: dict[str, tuple[Planner, Prior]] = {
    "random": (random, TRUE),
    "psrl": (psrl, SAMPLING),
    "opsrl": (opsrl, SAMPLING),
    "epsilon-greedy": (epsilon_greedy, GREEDY),
    "greedy": (greedy, GREEDY),
    "psrl-true-prior": (psrl, TRUE),
    "greedy-true-prior": (greedy, TRUE),
}


@torch.no_grad()
def play(
    family: TabularMDP,
    task: Any,
    planner: Planner,
    prior: Prior,
    episodes: int,
    trials: int,
    gen: torch.Generator | None = None,
) -> Tensor:
    """Total reward (N, trials) of trials of `episodes` episodes, with the posterior kept between.

    The tables stay hidden: trials learn from observations, actions and rewards alone.
    """
    total: Tensor = task[0].new_zeros(len(task[0]), trials)
    posterior = before(prior, total, family.states, family.actions)
    for _ in range(episodes):
        policy = planner(posterior, family.horizon, gen)
        simulator = simulate(family, task, trials, gen)  # type: ignore[arg-type]
        obs, steps = simulator.reset(), []
        for t in range(family.horizon):
            place = obs.argmax(-1)
            act = policy[:, :, t].gather(-1, place.unsqueeze(-1)).squeeze(-1)
            obs, rew, _, _ = simulator.step(act)
            steps.append((place, act, rew))
        place, act, rew = (torch.stack(x, dim=-1) for x in zip(*steps, strict=True))
        posterior = after(posterior, place, act, rew)
        total = total + rew.sum(-1)
    return total
