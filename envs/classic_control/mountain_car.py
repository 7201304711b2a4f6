"""Gymnasium's MountainCar with hidden physics and a hidden action mapping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from metarl.envs.core.parameters import Choice, Range
from metarl.envs.core.value_limits import HORIZON, check_constants


class Task(NamedTuple):
    """Physics of N tasks. Every field: (N, 1)."""

    gravity: Tensor  # change of velocity per step
    force: Tensor  # change of velocity per step
    inverted: Tensor  # 1 if action 0 pushes right and action 2 left


class State(NamedTuple):
    """B episodes of each of N tasks. Every field: (N, B)."""

    position: Tensor  # the bottom of the valley is at -pi / 6
    velocity: Tensor  # per step


@dataclass(frozen=True)
class MountainCar:
    """Rock an underpowered car to the top of a hill; which action pushes where is hidden.

    Action: 0 pushes left, 1 does nothing, 2 pushes right; 0 and 2 are swapped if `inverted` is 1.
    Observation: position in [-1.2, 0.6], velocity in [-1, 1], a multiple of the maximum of 0.07 per
    step. Gymnasium's unscaled velocity is too small for a network to use well.
    Reward: -1 per step. If `shaped`, also 100 in total for climbing from rest in the valley to the
    goal, paid as the car gains mechanical energy and deducted as it loses energy. Without shaping,
    nothing is learned: random actions never reach the top, so all returns are -200, and so are
    those of every task whose action mapping a policy gets wrong. Shaping doesn't change which of
    two episodes that reach the goal from the same start is better.
    Start: position uniform in [-0.6, -0.4], at rest.
    End: position >= 0.5, or after `horizon` steps.

    Reference returns, computed by tests: an oracle that knows the physics gets 9 (90 steps). Given
    the wrong action mapping it gets -195, as random actions do, so behavior that is optimal for one
    mapping alone gets about -93. Under Gymnasium's reward: -90, -200, -145. The best policy found
    that never adapts has no memory and equal actions in states mirrored at the valley; it gets -66
    on test tasks (PPO, 3M steps; docs/bounds.csv).

    Source: Moore 1990, with the equations of Gymnasium's MountainCar-v0, which is the default task.
    With `shaped=False, speed_unit=1.0` the two are identical.
    """

    gravity: Range = Range(0.002, 0.003, extrapolation=(0.0015, 0.0034), default=0.0025)
    force: Range = Range(0.0009, 0.0014, extrapolation=(0.0008, 0.0018), default=0.001)
    inverted: Choice = Choice((0.0, 1.0))
    shaped: bool = True  # whether energy is rewarded; False for Gymnasium's reward
    speed_unit: float = 0.07  # unit of the observed velocity; 1 for Gymnasium's observation
    lookahead: int = 150  # steps that the oracle simulates
    horizon: int = 200  # steps, Gymnasium's

    name: ClassVar[str] = "mountain-car"
    source: ClassVar[str] = "Moore 1990; Gymnasium's MountainCar-v0"
    task_type: ClassVar[type] = Task
    reset_noise: ClassVar[int] = 1
    step_noise: ClassVar[int] = 0
    low: ClassVar[float] = -1.2
    high: ClassVar[float] = 0.6
    max_speed: ClassVar[float] = 0.07  # per step
    goal: ClassVar[float] = 0.5
    climb_reward: ClassVar[float] = 100.0  # for the energy from valley to goal, if shaped

    def __post_init__(self) -> None:
        check_constants(
            self,
            gravity=(1e-6, 1),
            force=(0, 1),
            inverted=(0, 1),
            speed_unit=(1e-6, 1e6),
            lookahead=(1, 1000),
            horizon=HORIZON,
        )

    @property
    def observation_space(self) -> Box:
        speed = self.max_speed / self.speed_unit
        low = np.array([self.low, -speed], np.float32)
        return Box(low, np.array([self.high, speed], np.float32))

    @property
    def action_space(self) -> Discrete:
        return Discrete(3)

    def reset(self, task: Task, noise: Tensor) -> State:
        position = 0.2 * noise.squeeze(-1) - 0.6
        return State(position, torch.zeros_like(position))

    def observe(self, state: State) -> Tensor:
        return torch.stack((state.position, state.velocity / self.speed_unit), dim=-1)

    def step(
        self, state: State, act: Tensor, task: Task, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        nxt = self._advance(state, (act - 1) * (1 - 2 * task.inverted), task)
        rew = torch.full_like(nxt.position, -1.0)
        if self.shaped:
            rew = rew + self._worth(nxt, task) - self._worth(state, task)
        return nxt, rew, self._arrived(nxt)

    def _advance(self, state: State, push: Tensor, task: Task) -> State:
        """Next state under a push of -1, 0 or 1 times the force."""
        velocity = state.velocity + push * task.force - (3 * state.position).cos() * task.gravity
        velocity = velocity.clamp(-self.max_speed, self.max_speed)
        position = (state.position + velocity).clamp(self.low, self.high)
        # The left wall stops the car; the right wall is beyond the goal.
        stopped = (position == self.low) & (velocity < 0)
        return State(position, torch.where(stopped, 0, velocity))

    def _arrived(self, state: State) -> Tensor:
        return (state.position >= self.goal) & (state.velocity >= 0)

    def _worth(self, state: State, task: Task) -> Tensor:
        """Mechanical energy, capped at the goal's and scaled to `climb_reward` there.

        Used as a shaping potential (Ng et al. 1999). It is equal in all terminal states, so that of
        two episodes that reach the goal from the same start the shorter keeps the higher return.
        """
        climb = math.sin(3 * self.goal) + 1
        height = (3 * state.position).sin() + 1.5 * state.velocity.square() / task.gravity
        return (height.clamp(max=climb - 1) + 1) * (self.climb_reward / climb)

    def oracle(self, state: State, task: Task) -> Tensor:
        """First push after which full force along the motion reaches the goal soonest; (N, B).

        Simulates `lookahead` steps for left and right with the true physics; not optimal.
        """
        n, b = state.position.shape
        plan = State(*(x.repeat(1, 2) for x in state))
        along = torch.where(plan.velocity < 0, -1, 1)
        first = torch.arange(-1, 2, 2, device=along.device).repeat_interleave(b).expand(n, 2 * b)
        push, reached = first, torch.zeros_like(first)
        for _ in range(self.lookahead):
            plan = self._advance(plan, push, task)
            reached = torch.where(self._arrived(plan) | (reached > 0), reached + 1, 0)
            push = torch.where(plan.velocity < 0, -1, 1)
        left, right = (2 * reached + (first == along)).view(n, 2, b).unbind(1)
        return 1 + torch.where(left > right, -1, 1) * (1 - 2 * task.inverted).long()

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """Side view of the hill at 220 pixels per unit, with the car and a flag at the goal."""
        from metarl.envs.core.canvas import Canvas

        canvas, scale = Canvas(400, 290, (222, 236, 247)), 400 / (self.high - self.low)

        def point(position: float, up: float = 0) -> tuple[float, float]:
            """Pixel coordinates of a point `up` pixels above the slope, along its normal."""
            slope = math.atan(1.35 * math.cos(3 * position))
            x = scale * (position - self.low) - up * math.sin(slope)
            return x, 275 - scale * (0.45 * math.sin(3 * position) + 0.5) - up * math.cos(slope)

        for left in range(0, 400, 2):
            top = point(self.low + left / scale)[1]
            canvas.box(left, top, left + 2, 290, (120, 165, 110))
            canvas.box(left, top, left + 2, top + 4, (80, 125, 80))
        foot = point(self.goal)
        canvas.line(foot, (foot[0], foot[1] - 40), 3, (90, 90, 90))
        for k in range(8):
            canvas.box(
                foot[0] + k, foot[1] - 40 + k, foot[0] + k + 3, foot[1] - 20 - k, (225, 70, 60)
            )
        here = state.position[0, 0].item()
        slope = math.atan(1.35 * math.cos(3 * here))
        for half, up, high in ((19, 12, 12), (10, 22, 10)):  # pixels: body and cabin
            (x, y), dx, dy = point(here, up), half * math.cos(slope), half * math.sin(slope)
            canvas.line((x - dx, y + dy), (x + dx, y - dy), high, (40, 90, 200))
        for side in (-11, 11):
            canvas.disc(*point(here + side * math.cos(slope) / scale, 6), 6, (50, 50, 55))
        return canvas.array()
