"""The bandit of RL², the smallest family that requires adaptation."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Discrete, MultiBinary
from torch import Tensor

from metarl.envs.core.parameters import Parameter, Range
from metarl.envs.core.value_limits import HORIZON, check_constants

PITCH = 84  # pixels between machines in images


class State(NamedTuple):
    """History of B episodes of each of N tasks, used for rendering only."""

    pulls: Tensor  # (N, B, arms) pulls of each arm
    won: Tensor  # (N, B, arms) total reward of each arm
    last: Tensor  # (N, B) the arm pulled last, -1 before the first pull


@dataclass(frozen=True)
class Bandit:
    """Pull arms with hidden reward probabilities.

    Action: the arm, 0 to `arms` - 1.
    Observation: always a single 0; pulls are independent.
    Reward: 1 with the probability of the arm, else 0. With `gaussian`, normal with the mean of the
        arm and standard deviation 1.
    Start: the same in every episode.
    End: after `horizon` pulls.
    Reference returns: 0.5 per pull without adaptation, for any policy, since untried arms are
        equally good in expectation. The oracle pulls the best arm and gets the expected maximum of
        `arms` uniform numbers, arms / (arms + 1), per pull. By default 5.0 and 8.33 per episode.
    Source: Duan et al. 2016 (arXiv:1611.02779), section 3.1.
    """

    arms: int = 5
    horizon: int = 10  # pulls
    gaussian: bool = False

    name: ClassVar[str] = "bandit"
    source: ClassVar[str] = "Duan et al. 2016, RL² (arXiv:1611.02779), section 3.1"
    reset_noise: ClassVar[int] = 0
    step_noise: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_constants(self, arms=(2, 1000), horizon=HORIZON)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Mean reward of each arm: `arm_0`, `arm_1`, ..."""
        return _parameters(self.arms, self.gaussian)

    @property
    def task_type(self) -> type:
        """Fields (N, 1)."""
        return _task_type(self.arms)

    @property
    def observation_space(self) -> MultiBinary:
        return MultiBinary((1,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.arms)

    def reset(self, task: Any, noise: Tensor) -> State:
        zeros = noise.new_zeros(*noise.shape[:2], self.arms)
        last = torch.full(noise.shape[:2], -1, device=noise.device)
        return State(zeros, zeros, last)

    def observe(self, state: State) -> Tensor:
        return torch.zeros_like(state.pulls[..., :1])

    def step(
        self, state: State, act: Tensor, task: Any, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        mean = torch.cat(task, dim=-1).gather(-1, act)
        u = noise[..., 0]
        if self.gaussian:
            # ndtri(0) is -inf, so 0 is replaced with half the smallest step of a uniform number.
            rew = mean + torch.special.ndtri(u.clamp(min=2.0**-25))
        else:
            rew = (u < mean).to(mean.dtype)
        pulled = torch.zeros_like(state.pulls).scatter_(-1, act.unsqueeze(-1), 1.0)
        won = torch.addcmul(state.won, pulled, rew.unsqueeze(-1))
        nxt = State(state.pulls + pulled, won, act)
        return nxt, rew, torch.zeros_like(rew, dtype=torch.bool)

    def oracle(self, state: State, task: Any) -> Tensor:
        """The arm with the highest mean reward; optimal; (N, B)."""
        best = torch.cat(task, dim=-1).argmax(-1, keepdim=True)
        return best.expand(state.last.shape)

    def frame(self, state: State, task: Any) -> np.ndarray[Any, Any]:
        """A machine for each arm; the level in its window shows its mean, a lowered lever the last
        pull. Below it a coin for each pull: gold for reward 1, gray for 0. The coins of a Gaussian
        arm have the color of its average reward.
        """
        from metarl.envs.core.canvas import Canvas

        pulls, won = state.pulls[0, 0].tolist(), state.won[0, 0].tolist()
        canvas = Canvas(20 + PITCH * self.arms, 260, (46, 52, 72))
        for arm in range(self.arms):
            x = 20 + PITCH * arm
            _draw_machine(canvas, x, float(task[arm][0, 0]), state.last[0, 0].item() == arm)
            paid = [float(i < won[arm]) for i in range(round(pulls[arm]))]
            if self.gaussian:
                paid = [won[arm] / pulls[arm]] * len(paid) if pulls[arm] else []
            _draw_coins(canvas, x, paid, self.horizon)
        return canvas.array()


def _draw_machine(canvas: Any, x: float, mean: float, pulled: bool) -> None:
    """Draw 60 x 130 pixels with the top left corner at (x, 20)."""
    canvas.box(x, 20, x + 60, 150, (196, 62, 72), radius=10)
    canvas.box(x + 10, 32, x + 50, 112, (30, 34, 48), radius=4)
    full = 74 * min(max(mean, 0.0), 1.0)
    canvas.box(x + 13, 109 - full, x + 47, 109, (250, 204, 90), radius=2)
    canvas.box(x + 14, 124, x + 46, 132, (112, 30, 40), radius=4)
    lever = 122 if pulled else 50
    canvas.line((x + 60, 86), (x + 68, lever), 4, (170, 176, 190))
    canvas.disc(x + 68, lever, 7, (250, 250, 248) if pulled else (150, 156, 170))


def _draw_coins(canvas: Any, x: float, paid: list[float], most: int) -> None:
    """Draw one disc per pull, sized so that `most` of them fit; gray for 0, gold for 1."""
    columns = next(c for c in range(3, most + 3) if c * (90 * c // 60) >= most)
    side = 60 / columns
    for i, rew in enumerate(paid):
        share = min(max(rew, 0.0), 1.0)
        dark, gold = (72, 80, 104), (250, 204, 90)
        color = tuple(round(a + (b - a) * share) for a, b in zip(dark, gold, strict=True))
        center = (x + side * (i % columns + 0.5), 160 + side * (i // columns + 0.5))
        canvas.disc(*center, 0.42 * side, color)


@lru_cache
def _parameters(arms: int, gaussian: bool) -> dict[str, Parameter]:
    # Means of a normal arm are unbounded; probabilities aren't.
    extrapolation = (-1.0, 2.0) if gaussian else None
    defaults = [(arm + 1) / (arms + 1) for arm in range(arms)]  # equal arms would be trivial
    return {f"arm_{i}": Range(0.0, 1.0, "", extrapolation, u) for i, u in enumerate(defaults)}


@lru_cache
def _task_type(arms: int) -> type:
    return namedtuple("Task", [f"arm_{i}" for i in range(arms)])
