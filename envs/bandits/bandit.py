"""RL²'s bandit: the smallest world in which one can adapt."""

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

PITCH = 84  # pixels from machine to machine in pictures


class State(NamedTuple):
    """What B episodes of each of N tasks have had so far; only pictures need it."""

    pulls: Tensor  # (N, B, arms) of each arm
    won: Tensor  # (N, B, arms) sum of what each arm has paid
    last: Tensor  # (N, B) the arm pulled last, -1 before the first pull


@dataclass(frozen=True)
class Bandit:
    """Pull arms that pay at rates nobody tells.

    Action: the arm, 0 to `arms` - 1.
    Observation: one 0, always; pulls don't depend on each other.
    Reward: 1 with the arm's own probability, else 0; with `gaussian`, normal about the arm's own
        mean with standard deviation 1.
    Start: every episode alike.
    End: after `horizon` pulls.
    Anchors: 0.5 a pull without adapting, whatever the policy, since no arm is better before it has
        been tried; the oracle, which pulls the best arm, gets the mean of the highest of `arms`
        uniform numbers, arms / (arms + 1) a pull. By default 5.0 and 8.33 an episode.
    Source: Duan et al. 2016 (arXiv:1611.02779), section 3.1: there an agent remembers its trial;
        here it changes its weights between episodes.
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
        """What each arm pays on average, `arm_0` and so on."""
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
        nothing = noise.new_zeros(*noise.shape[:2], self.arms)
        last = torch.full(noise.shape[:2], -1, device=noise.device)
        return State(nothing, nothing, last)

    def observe(self, state: State) -> Tensor:
        return torch.zeros_like(state.pulls[..., :1])

    def step(
        self, state: State, act: Tensor, task: Any, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        mean = torch.cat(task, dim=-1).gather(-1, act)
        luck = noise[..., 0]
        if self.gaussian:
            # 0 would be minus infinity; half the least step of a uniform number stands for it.
            rew = mean + torch.special.ndtri(luck.clamp(min=2.0**-25))
        else:
            rew = (luck < mean).to(mean.dtype)
        pulled = torch.zeros_like(state.pulls).scatter_(-1, act.unsqueeze(-1), 1.0)
        won = torch.addcmul(state.won, pulled, rew.unsqueeze(-1))
        nxt = State(state.pulls + pulled, won, act)
        return nxt, rew, torch.zeros_like(rew, dtype=torch.bool)

    def oracle(self, state: State, task: Any) -> Tensor:
        """The arm that pays most on average, which is the best possible; (N, B)."""
        best = torch.cat(task, dim=-1).argmax(-1, keepdim=True)
        return best.expand(state.last.shape)

    def frame(self, state: State, task: Any) -> np.ndarray[Any, Any]:
        """A machine for each arm, its window as full as its mean is high, its lever down if it was
        pulled last. Below it a coin for each pull: gold paid 1, grey nothing; those of a Gaussian
        arm have the colour of their average.
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
    """60 x 130 pixels with its left upper corner at (x, 20)."""
    canvas.box(x, 20, x + 60, 150, (196, 62, 72), radius=10)
    canvas.box(x + 10, 32, x + 50, 112, (30, 34, 48), radius=4)
    full = 74 * min(max(mean, 0.0), 1.0)
    canvas.box(x + 13, 109 - full, x + 47, 109, (250, 204, 90), radius=2)
    canvas.box(x + 14, 124, x + 46, 132, (112, 30, 40), radius=4)
    setter = 122 if pulled else 50
    canvas.line((x + 60, 86), (x + 68, setter), 4, (170, 176, 190))
    canvas.disc(x + 68, setter, 7, (250, 250, 248) if pulled else (150, 156, 170))


def _draw_coins(canvas: Any, x: float, paid: list[float], most: int) -> None:
    """One disc for each pull, so large that `most` of them fit; grey paid nothing, gold 1."""
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
    # Means of a normal arm may be anything; what is said to be a probability may not.
    extrapolation = (-1.0, 2.0) if gaussian else None
    defaults = [(arm + 1) / (arms + 1) for arm in range(arms)]  # all equal would be no bandit
    return {f"arm_{i}": Range(0.0, 1.0, "", extrapolation, u) for i, u in enumerate(defaults)}


@lru_cache
def _task_type(arms: int) -> type:
    return namedtuple("Task", [f"arm_{i}" for i in range(arms)])
