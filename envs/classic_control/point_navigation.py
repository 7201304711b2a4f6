"""2D navigation to a hidden goal, the first reinforcement-learning family of the MAML paper."""

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
    """Move a point on a plane to a hidden goal.

    Action: velocity in m/step along x and y, clipped to +-0.1. Observation: position in m.
    Reward: negative distance to the goal in m, after the move. Start: the origin. End: within
    0.01 m of the goal in x and in y, or after `horizon` steps.

    Reference returns, computed by tests: standing still gets -38.3, -100 times the mean distance to
    a goal, and no policy that doesn't adapt does much better. The oracle, which knows the goal,
    gets -0.5 (the paper's learned oracle, with action noise, -2.29).

    Source: Finn et al. 2017 (arXiv:1703.03400), section 5.3, as in their published code.
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
        far = self.speed_max * (self.horizon + 1)  # + 1 allows for float32 rounding of the sum
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
        """Velocity (N, B, 2) of the fastest path to the goal."""
        to_goal = torch.stack((task.goal_x, task.goal_y), dim=-1) - state.pos
        return to_goal.clamp(-self.speed_max, self.speed_max)

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """Top view of the square [-1, 1]^2 m: agent blue, goal green, start gray."""
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
