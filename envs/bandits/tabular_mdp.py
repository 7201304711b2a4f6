"""The random MDPs of RL²: a new table of transitions and rewards for each task."""

from __future__ import annotations

import math
from collections import namedtuple
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Discrete, MultiBinary
from torch import Tensor

from metarl.envs.core.errors import UsageError
from metarl.envs.core.parameters import Parameter, Range
from metarl.envs.core.value_limits import HORIZON, check_constants

if TYPE_CHECKING:
    from metarl.envs.core.canvas import Canvas, Color

Point = tuple[float, float]
HUES = ((231, 111, 81), (42, 157, 143), (233, 180, 70), (106, 76, 147), (69, 123, 200))  # actions
MOST = 20_000  # parameters per task
LEAST = 1e-6  # minimum distance of quantiles from 0 and 1, where rewards would be infinite


class State(NamedTuple):
    """B episodes of each of N tasks, with views of the tasks' tables."""

    place: Tensor  # (N, B) state of the MDP, 0 to states - 1
    last: Tensor  # (N, B) previous state of the MDP, used for rendering only
    time: Tensor  # (N, B) steps taken
    earned: Tensor  # (N, B) sum of rewards, used for rendering only
    reward: Tensor  # (N, B, states * actions) mean reward of each action in each state
    reach: Tensor  # (N, B, states * actions, states - 1) cumulative probability of next states


@dataclass(frozen=True)
class TabularMDP:
    """Collect rewards in a random MDP with hidden transitions and rewards.

    A task is a table of transition probabilities and mean rewards. Its parameters are quantiles,
    uniform in [0, 1], which `reset` maps to the defining distributions: `reward_S_A` to the mean
    reward, normal(1, 1), of action A in state S; `move_S_A_T` to a weight, exponential(1), of next
    state T. The normalized weights have a flat Dirichlet distribution.

    Action: 0 to `actions` - 1.
    Observation: the state, one-hot.
    Reward: normal with the mean of the state and action and standard deviation 1.
    Start: state 0.
    End: after `horizon` steps.
    Reference returns: 1 per step, thus 10.0 per episode, without adaptation, for any policy, since
        mean rewards are independent of everything that determines the visited states. The oracle
        knows the tables and plans by dynamic programming; it gets 21.8 on average over tasks.
    Source: Duan et al. 2016 (arXiv:1611.02779), section 3.2, after Osband et al. 2013
        (arXiv:1306.0940).
    """

    states: int = 10
    actions: int = 5
    horizon: int = 10  # steps

    name: ClassVar[str] = "tabular-mdp"
    source: ClassVar[str] = "Duan et al. 2016, RL² (arXiv:1611.02779), section 3.2"
    reset_noise: ClassVar[int] = 0
    step_noise: ClassVar[int] = 2  # next state, reward

    def __post_init__(self) -> None:
        check_constants(self, states=(2, 100), actions=(2, 100), horizon=HORIZON)
        if (count := self.states * self.actions * (self.states + 1)) > MOST:
            raise UsageError(
                f"{self.name}: {self.states} states x {self.actions} actions have {count} "
                f"parameters: give fewer, so that there are at most {MOST} parameters."
            )

    @property
    def parameters(self) -> dict[str, Parameter]:
        """`reward_S_A` for each state and action, then `move_S_A_T` for each next state."""
        return _parameters(self.states, self.actions)

    @property
    def task_type(self) -> type:
        """Fields (N, 1)."""
        return _task_type(self.states, self.actions)

    @property
    def observation_space(self) -> MultiBinary:
        return MultiBinary((self.states,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.actions)

    def tables(self, task: Any) -> tuple[Tensor, Tensor]:
        """Mean rewards (N, states * actions); transitions (N, states * actions, states)."""
        pairs = self.states * self.actions
        quantiles = torch.cat(task, dim=-1).clamp(LEAST, 1 - LEAST)
        weight = -quantiles[:, pairs:].log().unflatten(-1, (pairs, self.states))
        reward = 1.0 + torch.special.ndtri(quantiles[:, :pairs])
        return reward, weight / weight.sum(-1, keepdim=True)

    def reset(self, task: Any, noise: Tensor) -> State:
        reward, move = self.tables(task)
        n, b = noise.shape[:2]
        start = torch.zeros(n, b, dtype=torch.long, device=noise.device)
        reach = move[..., :-1].cumsum(-1)
        return State(
            place=start,
            last=start,
            time=start,
            earned=noise.new_zeros(n, b),
            reward=reward.unsqueeze(1).expand(-1, b, -1),
            reach=reach.unsqueeze(1).expand(-1, b, -1, -1),
        )

    def observe(self, state: State) -> Tensor:
        one_hot = state.earned.new_zeros(*state.place.shape, self.states)
        return one_hot.scatter_(-1, state.place.unsqueeze(-1), 1.0)

    def step(
        self, state: State, act: Tensor, task: Any, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        # Tables are kept in the state, since computing them takes longer than a step.
        pair = (state.place * self.actions + act).unsqueeze(-1)
        mean = state.reward.gather(-1, pair).squeeze(-1)
        reach = state.reach.take_along_dim(pair.unsqueeze(-1), -2).squeeze(-2)
        place = (noise[..., :1] >= reach).sum(-1)
        rew = mean + torch.special.ndtri(noise[..., 1].clamp(min=2.0**-25))
        nxt = state._replace(
            place=place, last=state.place, time=state.time + 1, earned=state.earned + rew
        )
        return nxt, rew, torch.zeros_like(rew, dtype=torch.bool)

    def oracle(self, state: State, task: Any) -> Tensor:
        """Finite-horizon dynamic programming on the true tables; optimal; (N, B)."""
        reward, move = self.tables(task)
        value, plan = torch.zeros_like(reward[:, : self.states]), []
        for _ in range(self.horizon):
            q = (reward + (move @ value.unsqueeze(-1)).squeeze(-1)).unflatten(
                -1, (self.states, self.actions)
            )
            value, best = q.max(-1)
            plan.append(best)
        left = (self.horizon - 1 - state.time).clamp(min=0)
        return torch.stack(plan, dim=1).flatten(1).gather(-1, left * self.states + state.place)

    def frame(self, state: State, task: Any) -> np.ndarray[Any, Any]:
        """The states on a ring, greener the higher the mean reward of their best action.

        Bars on the right show the mean reward of each action in the current state, left of the line
        if negative. A ray to a state has the color of the action that most likely leads there, and
        its width shows the probability. White: the last step. Bottom: steps taken.
        """
        from metarl.envs.core.canvas import Canvas

        canvas = Canvas(480, 340, (250, 250, 248))
        reward, move = (x[0].double().cpu() for x in self.tables(task))
        reward = reward.unflatten(0, (self.states, self.actions))
        here, last = int(state.place[0, 0]), int(state.last[0, 0])
        angles = [2 * math.pi * s / self.states for s in range(self.states)]
        spots = [(165 + 125 * math.sin(t), 160 - 125 * math.cos(t)) for t in angles]
        _draw_rays(canvas, spots, here, move.unflatten(0, reward.shape)[here])
        if state.time[0, 0] > 0:
            canvas.line(spots[last], spots[here], 7, (60, 60, 66))
            canvas.line(spots[last], spots[here], 4, (255, 255, 255))
        radius = min(20.0, 300 / self.states)
        for spot, best in zip(spots, reward.amax(1).tolist(), strict=True):
            canvas.disc(*spot, radius + 2, (60, 60, 66))
            canvas.disc(*spot, radius, _mix((best - 0.5) / 3))
        canvas.disc(*spots[here], 0.6 * radius, (40, 90, 200))
        for dx in (-0.2, 0.2):
            x, y = spots[here]
            canvas.disc(x + dx * radius, y - 0.15 * radius, 0.12 * radius, (255, 255, 255))
        _draw_bars(canvas, reward[here].tolist())
        done = 440 * int(state.time[0, 0]) / self.horizon
        canvas.box(20, 324, 460, 330, (222, 222, 218), radius=3)
        canvas.box(20, 324, 20 + done, 330, (60, 60, 66), radius=3)
        return canvas.array()


def _mix(share: float) -> Color:
    """Interpolate from gray at 0 to green at 1."""
    share = min(max(share, 0.0), 1.0)
    gray, green = (214, 214, 210), (40, 150, 80)
    red, g, blue = (round(a + (b - a) * share) for a, b in zip(gray, green, strict=True))
    return red, g, blue


def _hue(action: int) -> Color:
    return HUES[action % len(HUES)]


def _draw_rays(canvas: Canvas, spots: list[Point], here: int, move: Tensor) -> None:
    """Draw a ray from state `here` to every other state.

    Args:
        move: (actions, states) transition probabilities from `here`.
    """
    often, action = move.max(0)
    for spot, p, a in zip(spots, often.tolist(), action.tolist(), strict=True):
        if spot != spots[here]:
            canvas.line(spots[here], spot, 14 * p, _hue(a))


def _draw_bars(canvas: Canvas, reward: list[float]) -> None:
    """Draw mean rewards from -2 to 4 at 18 pixels per unit, from a line at x = 384."""
    pitch = 240 / len(reward)
    for action, mean in enumerate(reward):
        y, end = 40 + pitch * action, 384 + 18 * min(max(mean, -2.0), 4.0)
        canvas.box(min(384, end), y, max(384, end), y + 0.7 * pitch, _hue(action), radius=3)
    canvas.box(383, 34, 385, 40 + 240, (60, 60, 66))


@lru_cache
def _parameters(states: int, actions: int) -> dict[str, Parameter]:
    names = [f"reward_{s}_{a}" for s, a in product(range(states), range(actions))]
    triples = product(range(states), range(actions), range(states))
    names += [f"move_{s}_{a}_{t}" for s, a, t in triples]
    # Multiples of the golden ratio, modulo 1, are spread evenly, so that the default task has
    # rewards and transition probabilities of all sizes.
    defaults = [(i + 0.5) * (math.sqrt(5) - 1) / 2 % 1 for i in range(len(names))]
    return {k: Range(0.0, 1.0, default=u) for k, u in zip(names, defaults, strict=True)}


@lru_cache
def _task_type(states: int, actions: int) -> type:
    return namedtuple("Task", list(_parameters(states, actions)))
