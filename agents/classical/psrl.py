"""What is known to work on random decision processes: the rows beside which RL² put its agent.

A posterior over tables is kept for each trial. Before each episode a planner turns it into a policy
for that episode by finite-horizon dynamic programming. Equally good actions are drawn from.

The published rows (Duan et al. 2016, arXiv:1611.02779, table 2) come out, to within chance, under
priors that the processes are *not* drawn from, the defaults of github.com/iosband/TabulaRL: mean
rewards normal(0, 1) for PSRL and OPSRL, next to no prior for the greedy ones. Under the true prior,
normal(1, 1) and a flat Dirichlet, untried actions look better. PSRL then explores more and gets
less (133.7 in 10 episodes instead of 137.8), while `greedy` gets 154 in 10 and 433 in 25, more than
any row of the table but trained agents (RL² 156.2 and 445.7).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metarl.envs import simulate
from metarl.envs.bandits.tabular_mdp import TabularMDP


class Prior(NamedTuple):
    """Of each state and action; the default is what the family draws from."""

    reward: float = 1.0  # mean of the mean reward
    reward_weight: float = 1.0  # its precision, in rewards seen: their noise has variance 1
    move_weight: float = 1.0  # Dirichlet's concentration at each next state, in moves seen


TRUE = Prior()
SAMPLING = Prior(reward=0.0)
GREEDY = Prior(reward=0.0, reward_weight=1e-4, move_weight=1e-4)


class Posterior(NamedTuple):
    """Of the tables of N tasks in each of B trials; S states, A actions."""

    reward: Tensor  # (N, B, S * A) mean of the normal posterior of the mean reward
    precision: Tensor  # (N, B, S * A) of that posterior
    move: Tensor  # (N, B, S * A, S) concentrations of the Dirichlet posterior of next states


Tables = tuple[Tensor, Tensor]  # mean rewards (..., S * A), transitions (..., S * A, S)
Planner = Callable[[Posterior, int, torch.Generator | None], Tensor]  # policy (N, B, T, S)


def before(prior: Prior, like: Tensor, states: int, actions: int) -> Posterior:
    """What is known before the first step; `like` (N, B) gives count, device and type."""
    pairs = (*like.shape, states * actions)
    return Posterior(
        reward=like.new_full(pairs, prior.reward),
        precision=like.new_full(pairs, prior.reward_weight),
        move=like.new_full((*pairs, states), prior.move_weight),
    )


def after(posterior: Posterior, place: Tensor, act: Tensor, rew: Tensor) -> Posterior:
    """What an episode adds: conjugate updates. All arguments (N, B, T).

    Where the last step led isn't counted, since no agent that acts in T observations sees it.
    """
    states = posterior.move.shape[-1]
    pair = place * (posterior.reward.shape[-1] // states) + act
    precision = posterior.precision.scatter_add(-1, pair, torch.ones_like(rew))
    total = (posterior.precision * posterior.reward).scatter_add(-1, pair, rew)
    seen = pair[..., :-1] * states + place[..., 1:]
    move = posterior.move.flatten(-2).scatter_add(-1, seen, torch.ones_like(rew[..., 1:]))
    return Posterior(total / precision, precision, move.view_as(posterior.move))


def mean(posterior: Posterior) -> Tables:
    """Expected tables."""
    return posterior.reward, posterior.move / posterior.move.sum(-1, keepdim=True)


def sample(posterior: Posterior, gen: torch.Generator | None) -> Tables:
    """One draw of all tables."""
    like = posterior.reward
    noise = torch.randn(like.shape, generator=gen, dtype=like.dtype, device=like.device)
    reward = posterior.reward + noise / posterior.precision.sqrt()
    return reward, torch._sample_dirichlet(posterior.move, generator=gen)


def action_values(tables: Tables, horizon: int) -> Tensor:
    """Q of each action by backward induction, (..., T, S, A)."""
    reward, move = tables
    states = move.shape[-1]
    value, out = reward.new_zeros(*reward.shape[:-1], states), []
    for _ in range(horizon):
        q = (reward + (move @ value.unsqueeze(-1)).squeeze(-1)).unflatten(-1, (states, -1))
        value = q.amax(-1)
        out.append(q)
    return torch.stack(out[::-1], dim=-3)


def best(q: Tensor, gen: torch.Generator | None) -> Tensor:
    """An action of the highest value, drawn among equals (to within rounding), (...)."""
    lot = torch.rand(q.shape, generator=gen, device=q.device)
    return torch.where(q >= q.amax(-1, keepdim=True) - 1e-5, lot, -1).argmax(-1)


def random(posterior: Posterior, horizon: int, gen: torch.Generator | None) -> Tensor:
    """Any action."""
    n, b, pairs, states = posterior.move.shape
    shape = (n, b, horizon, states)
    return torch.randint(pairs // states, shape, generator=gen, device=posterior.move.device)


def greedy(posterior: Posterior, horizon: int, gen: torch.Generator | None) -> Tensor:
    """The best plan for the expected tables."""
    return best(action_values(mean(posterior), horizon), gen)


def epsilon_greedy(
    posterior: Posterior, horizon: int, gen: torch.Generator | None, epsilon: float = 0.1
) -> Tensor:
    """Greedy, but any action with probability `epsilon`.

    Drawn beforehand for each time and state: an episode meets each time but once. Tried: 0.05, 0.1,
    0.2 and 0.3.
    """
    act = greedy(posterior, horizon, gen)
    explore = torch.rand(act.shape, generator=gen, device=act.device) < epsilon
    return torch.where(explore, random(posterior, horizon, gen), act)


def psrl(posterior: Posterior, horizon: int, gen: torch.Generator | None) -> Tensor:
    """The best plan for one draw of the tables, kept for a whole episode.

    Source: Osband et al. 2013 (arXiv:1306.0940), algorithm PSRL.
    """
    return best(action_values(sample(posterior, gen), horizon), gen)


def opsrl(
    posterior: Posterior, horizon: int, gen: torch.Generator | None, samples: int = 20
) -> Tensor:
    """Each action by the highest of its values in `samples` draws of the tables.

    Each draw is planned for by itself. Tried: 2, 5, 10 and 20 draws, the more the better; and the
    plan for the draw that promises most from the start, which gains nothing over PSRL.
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
    """Total reward of each trial of `episodes` episodes, which remembers all of them; (N, trials).

    The tables stay hidden: a trial learns from observations, actions and rewards alone.
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
