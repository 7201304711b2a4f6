"""2-D navigation to a hidden goal: the MAML paper's first reinforcement-learning family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from metarl.envs.core.parameters import Range
from metarl.envs.core.value_limits import HORIZON, check_constants


class Task(NamedTuple):
    """Goals of N tasks. Every field: (N, 1)."""

    goal_x: Tensor  # m
    goal_y: Tensor  # m


class State(NamedTuple):
    """B episodes of each of N tasks."""

    pos: Tensor  # (N, B, 2) m


@dataclass(frozen=True)
class PointNavigation:
    """A point walks on a plane to a goal that it can't see.

    Action: velocity in m/step along x and y, clipped to +-0.1. Observation: position in m.
    Reward: minus the distance to the goal in m, after the move. Start: the origin. End: within
    0.01 m of the goal in x and in y, or after `horizon` steps.

    Anchors: standing still gets -38.3, -100 times the mean distance of a goal, and no policy that
    doesn't adapt does much better; the oracle, which is told the goal, gets -0.5 (the paper's
    learned one, with noise in its actions, -2.29). Tests compute both.
    Source: Finn et al. 2017 (arXiv:1703.03400), section 5.3, as their published code has it.
    """

    goal_x: Range = Range(-0.5, 0.5, "m", extrapolation=(-0.8, 0.8), default=0.3)
    goal_y: Range = Range(-0.5, 0.5, "m", extrapolation=(-0.8, 0.8), default=0.3)
    horizon: int = 100  # steps

    name: ClassVar[str] = "point-navigation"
    source: ClassVar[str] = "Finn et al. 2017 (arXiv:1703.03400)"
    task_type: ClassVar[type] = Task
    reset_noise: ClassVar[int] = 0
    step_noise: ClassVar[int] = 0
    speed_max: ClassVar[float] = 0.1  # m/step
    reach: ClassVar[float] = 0.01  # m, in each coordinate

    def __post_init__(self) -> None:
        check_constants(self, goal_x=(-1e3, 1e3), goal_y=(-1e3, 1e3), horizon=HORIZON)

    @property
    def observation_space(self) -> Box:
        far = self.speed_max * (self.horizon + 1)  # one to spare, for sums in float32
        return Box(-far, far, (2,), np.float32)

    @property
    def action_space(self) -> Box:
        return Box(-self.speed_max, self.speed_max, (2,), np.float32)

    def reset(self, task: Task, noise: Tensor) -> State:
        return State(pos=noise.new_zeros(*noise.shape[:2], 2))

    def observe(self, state: State) -> Tensor:
        return state.pos

    def step(
        self, state: State, act: Tensor, task: Task, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        pos = state.pos + act.clamp(-self.speed_max, self.speed_max)
        to_goal = torch.stack((task.goal_x, task.goal_y), dim=-1) - pos
        terminated = (to_goal.abs() < self.reach).all(dim=-1)
        return State(pos), -to_goal.norm(dim=-1), terminated

    def oracle(self, state: State, task: Task) -> Tensor:
        """The fastest walk, given the goal; (N, B, 2)."""
        to_goal = torch.stack((task.goal_x, task.goal_y), dim=-1) - state.pos
        return to_goal.clamp(-self.speed_max, self.speed_max)

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """The square [-1, 1]^2 m from above: agent blue, goal green, start grey."""
        from metarl.envs.core.canvas import Canvas

        canvas = Canvas(240, 240, (250, 250, 248))
        goal = (task.goal_x[0, 0].item(), task.goal_y[0, 0].item())
        for (x, y), radius, color in (
            ((0.0, 0.0), 3.0, (170, 170, 170)),
            (goal, 9.0, (70, 160, 90)),
            (tuple(state.pos[0, 0].tolist()), 6.0, (40, 90, 200)),
        ):
            canvas.disc(120 * (1 + x), 120 * (1 - y), radius, color)
        return canvas.array()
