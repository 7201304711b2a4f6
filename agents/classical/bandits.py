"""What is known to work on Bernoulli bandits: the rows beside which RL² put its agent.

Each rule is told what every arm has paid so far and names the next arm, for all trials at once.
All start from one win and one loss for each arm, Beta(1, 1), which is how the family draws its
arms. Of arms that look equally good the first is pulled; for `greedy` that matters: a random one
would get 0.1 more in 10 pulls of 10 arms and 2 more in 100 pulls of 50.

Source of the table: Duan et al. 2016 (arXiv:1611.02779), table 1, whose rules are tuned; here each
has one value for all settings, named in its docstring with what else was tried. What they get comes
within 0.1 of the table in 10 pulls and within 1 in 100, but for `gittins`, which gets 0.2 more in
10 pulls of 50 arms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metarl.envs import UsageError, simulate
from metarl.envs.bandits.bandit import Bandit


class Counts(NamedTuple):
    """What each of A arms has paid in B trials of each of N tasks."""

    won: Tensor  # (N, B, A) pulls that paid 1
    lost: Tensor  # (N, B, A) pulls that paid 0
    time: int  # pulls made
    pulls: int  # pulls in the whole trial


Rule = Callable[[Counts, torch.Generator | None], Tensor]  # the next arm, (N, B)


def mean(counts: Counts) -> Tensor:
    """Of each arm's posterior, (N, B, A)."""
    return (counts.won + 1) / (counts.won + counts.lost + 2)


def sample(counts: Counts, gen: torch.Generator | None, samples: int = 1) -> Tensor:
    """Rates drawn from each arm's posterior, (samples, N, B, A)."""
    beta = torch.stack((counts.won + 1, counts.lost + 1), dim=-1)
    # torch.distributions.Beta takes no generator.
    drawn: Tensor = torch._sample_dirichlet(beta.expand(samples, *beta.shape), generator=gen)
    return drawn[..., 0]


def random(counts: Counts, gen: torch.Generator | None) -> Tensor:
    """Any arm."""
    arms, device = counts.won.shape[-1], counts.won.device
    return torch.randint(arms, counts.won.shape[:2], generator=gen, device=device)


def greedy(counts: Counts, gen: torch.Generator | None) -> Tensor:
    """The arm with the best mean."""
    return mean(counts).argmax(-1)


def epsilon_greedy(counts: Counts, gen: torch.Generator | None, epsilon: float = 0.01) -> Tensor:
    """The arm with the best mean, but any with probability `epsilon`.

    Tried: 0.01, 0.02, 0.05, 0.1 and 0.2. No more than chance lies between the first two.
    """
    arm = greedy(counts, gen)
    explore = torch.rand(arm.shape, generator=gen, device=arm.device) < epsilon
    return torch.where(explore, random(counts, gen), arm)


def ucb1(counts: Counts, gen: torch.Generator | None, width: float = 0.2) -> Tensor:
    """The arm with the highest mean + width * sqrt(2 log t / tries).

    Width 1 is the rule of the proof, and much too wide for trials as short as these: 66.7 instead
    of 78.3 in 100 pulls of 5 arms. Tried: 0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5 and 1; up to
    0.2 it matters little in 10 pulls (0.02), and 0.2 is the best in 100.
    Source: Auer et al. 2002, Finite-time analysis of the multiarmed bandit problem.
    """
    tries = counts.won + counts.lost + 2
    return (mean(counts) + width * (2 * math.log(counts.time + 1) / tries).sqrt()).argmax(-1)


def thompson(counts: Counts, gen: torch.Generator | None) -> Tensor:
    """The best arm of one world drawn from the posterior.

    Source: Thompson 1933; Chapelle and Li 2011, An empirical evaluation of Thompson sampling.
    """
    return sample(counts, gen)[0].argmax(-1)


def optimistic_thompson(counts: Counts, gen: torch.Generator | None, samples: int = 20) -> Tensor:
    """The best arm of the likeliest of `samples` worlds drawn from the posterior.

    This is the rule that gets what the table has under OTS, in all six settings of 10 and 100
    pulls. The name usually means another: the best arm by max(draw, mean) (May et al. 2012,
    Optimistic Bayesian sampling in contextual-bandit problems), which gets 6.0 instead of 6.5 in 10
    pulls of 5 arms; the best arm by its highest of 2 to 20 draws gets as little.
    """
    rate = sample(counts, gen, samples)
    logp = (torch.xlogy(counts.won, rate) + torch.xlogy(counts.lost, 1 - rate)).sum(-1)
    likeliest = logp.argmax(0, keepdim=True)
    return rate.argmax(-1).gather(0, likeliest)[0]


def gittins(counts: Counts, gen: torch.Generator | None, gamma: float | None = None) -> Tensor:
    """The arm with the highest Gittins index: optimal if later pulls counted less and less.

    Without `gamma` it is 1 - 1 / pulls, under which pulls count as much in all as those of the
    trial. Tried: 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995; in 100 pulls 0.98 is better by 0.2 at
    most, in 10 none is better by more than 0.01. The published row is 0.1 to 0.2 lower in 10 pulls,
    about what 0.99 gets there, and up to 0.9 lower in 100.
    """
    discount = 1 - 1 / counts.pulls if gamma is None else gamma
    index = gittins_index(counts.pulls, discount, counts.won.device)
    return index[counts.won.long(), counts.lost.long()].argmax(-1)


@lru_cache
def gittins_index(pulls: int, gamma: float, device: torch.device | str = "cpu") -> Tensor:
    """Gittins index of an arm that has won i times and lost j times, [i, j], to within 1e-4.

    It is the sure pay for which one would just as soon give the arm up for good. For each of a grid
    of sure pays the value of the arm, with the right to give it up, comes from dynamic programming
    back from so many pulls that learning is all but over; the index lies where that value meets
    the sure pay's. Only i + j < pulls is filled.
    Source: Gittins, Glazebrook and Weber 2011, Multi-armed bandit allocation indices: the method
    of calibration.
    """
    sure = torch.linspace(0, 1, 401, dtype=torch.float64)
    stop = sure / (1 - gamma)
    index = torch.zeros(pulls, pulls, dtype=torch.float64)
    last = pulls + math.ceil(5 / (1 - gamma))
    rate = (torch.arange(last + 1, dtype=torch.float64).unsqueeze(-1) + 1) / (last + 2)
    value = torch.maximum(rate / (1 - gamma), stop)  # (wins, grid)
    for tries in reversed(range(last)):
        wins = torch.arange(tries + 1)
        rate = (wins.double().unsqueeze(-1) + 1) / (tries + 2)
        play_on = rate * (1 + gamma * value[1:]) + (1 - rate) * gamma * value[:-1]
        if tries < pulls:
            index[wins, tries - wins] = _crossing(play_on - stop, sure)
        value = torch.maximum(play_on, stop)
    return index.to(device, torch.float32)


def _crossing(gain: Tensor, sure: Tensor) -> Tensor:
    """Where each row of `gain`, which falls over the grid, is 0."""
    left = ((gain > 0).sum(-1, keepdim=True) - 1).clamp(0, len(sure) - 2)
    above, below = gain.gather(-1, left), gain.gather(-1, left + 1)
    return (sure[left] + (sure[1] - sure[0]) * above / (above - below)).squeeze(-1)


RULES: dict[str, Rule] = {
    "random": random,
    "gittins": gittins,
    "thompson": thompson,
    "optimistic-thompson": optimistic_thompson,
    "ucb1": ucb1,
    "epsilon-greedy": epsilon_greedy,
    "greedy": greedy,
}


@torch.no_grad()
def play(
    family: Bandit,
    task: Any,
    rule: Rule,
    episodes: int,
    trials: int,
    gen: torch.Generator | None = None,
) -> Tensor:
    """Total reward of each trial of `episodes` episodes, which remembers all of them; (N, trials).

    Raises:
        UsageError: a Gaussian bandit, for which these rules aren't.
    """
    if family.gaussian:
        raise UsageError("Bandit(gaussian=True): rules are for arms that pay 0 or 1; leave it out.")
    nothing: Tensor = task[0].new_zeros(len(task[0]), trials, family.arms)
    won, lost = nothing, nothing
    for episode in range(episodes):
        simulator = simulate(family, task, trials, gen)  # type: ignore[arg-type]
        simulator.reset()
        for t in range(family.horizon):
            time = episode * family.horizon + t
            arm = rule(Counts(won, lost, time, episodes * family.horizon), gen).unsqueeze(-1)
            rew = simulator.step(arm.squeeze(-1))[1].unsqueeze(-1)
            won, lost = won.scatter_add(-1, arm, rew), lost.scatter_add(-1, arm, 1 - rew)
    return won.sum(-1)
