"""Gymnasium's MountainCar with its physics, and the sense of its keys, as hidden parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from envs.family import Choice, Range


class Task(NamedTuple):
    """Physics of N tasks. Every field: (N, 1)."""

    gravity: Tensor  # of speed per step
    force: Tensor  # of speed per step
    inverted: Tensor  # 1 where key 0 pushes right and key 2 left


class State(NamedTuple):
    """B episodes of each of N tasks. Every field: (N, B)."""

    position: Tensor  # the valley's bottom is at -pi / 6
    velocity: Tensor  # per step


@dataclass(frozen=True)
class MountainCar:
    """Rock a car that is too weak for its hill to the top; which key pushes where is hidden.

    Action: 0 pushes left, 1 nothing, 2 right; left and right changed over where `inverted` is 1.
    Observation: position in [-1.2, 0.6], velocity in [-0.07, 0.07] a step.
    Reward: SHAPED
    Start: position uniform in [-0.6, -0.4], at rest.
    End: position >= 0.5, or after `horizon` steps.
    Anchors: ANCHORS
    Source: Moore 1990, with the equations of Gymnasium's MountainCar-v0, which is the task that
    one gets by default.
    """

    gravity: Range = Range(0.002, 0.003, beyond=(0.0015, 0.0034), default=0.0025)
    force: Range = Range(0.0009, 0.0014, beyond=(0.0008, 0.0018), default=0.001)
    inverted: Choice = Choice((0.0, 1.0))
    shaped: bool = True  # whether energy pays; False is Gymnasium's reward
    speed_unit: float = 0.07  # per step, of what is observed; 1 is Gymnasium's observation
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
    climb_reward: ClassVar[float] = 100.0  # for the energy from valley to goal, where shaped

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
        push = (act.to(state.position.dtype) - 1) * (1 - 2 * task.inverted) * task.force
        velocity = state.velocity + push - (3 * state.position).cos() * task.gravity
        velocity = velocity.clamp(-self.max_speed, self.max_speed)
        position = (state.position + velocity).clamp(self.low, self.high)
        # The wall on the left takes all speed; beyond the goal on the right nothing is left to do.
        velocity = torch.where((position == self.low) & (velocity < 0), 0, velocity)
        nxt = State(position, velocity)
        rew = torch.full_like(position, -1.0)
        if self.shaped:
            rew = rew + self._worth(nxt, task) - self._worth(state, task)
        return nxt, rew, (position >= self.goal) & (velocity >= 0)

    def _worth(self, state: State, task: Task) -> Tensor:
        """Mechanical energy as a height, capped at the goal's, where it is worth `climb_reward`.

        A potential (Ng et al. 1999) that is the same in every state that ends an episode: of two
        episodes that reach the goal from one start, the shorter has the higher return, as without.
        """
        climb = math.sin(3 * self.goal) + 1
        height = (3 * state.position).sin() + 1.5 * state.velocity.square() / task.gravity
        return (height.clamp(max=climb - 1) + 1) * (self.climb_reward / climb)

    def oracle(self, state: State, task: Task) -> Tensor:
        """Full force where the car goes, which gains energy fastest; good, not optimal; (N, B)."""
        push = torch.where(state.velocity < 0, -1, 1)
        return 1 + push * (1 - 2 * task.inverted).long()

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """The hill from the side, 220 pixels a unit, the car upon it, a flag at the goal."""
        from envs.drawing import Canvas

        canvas, scale = Canvas(400, 290, (222, 236, 247)), 400 / (self.high - self.low)

        def point(position: float, up: float = 0) -> tuple[float, float]:
            """A place `up` pixels above the slope, straight away from it."""
            slope = math.atan(1.35 * math.cos(3 * position))
            x = scale * (position - self.low) - up * math.sin(slope)
            return x, 275 - scale * (0.45 * math.sin(3 * position) + 0.5) - up * math.cos(slope)

        for x in range(0, 400, 2):
            top = point(self.low + x / scale)[1]
            canvas.box(x, top, x + 2, 290, (120, 165, 110))
            canvas.box(x, top, x + 2, top + 4, (80, 125, 80))
        foot = point(self.goal)
        canvas.line(foot, (foot[0], foot[1] - 40), 3, (90, 90, 90))
        for k in range(8):
            canvas.box(foot[0] + k, foot[1] - 40 + k, foot[0] + k + 3, foot[1] - 20 - k, (225, 70, 60))
        here = state.position[0, 0].item()
        slope = math.atan(1.35 * math.cos(3 * here))
        for half, up, high in ((19, 12, 12), (10, 22, 10)):  # pixels: body and cabin
            (x, y), dx, dy = point(here, up), half * math.cos(slope), half * math.sin(slope)
            canvas.line((x - dx, y + dy), (x + dx, y - dy), high, (40, 90, 200))
        for side in (-0.05, 0.05):
            canvas.disc(*point(here + side, 6), 6, (50, 50, 55))
        return canvas.array()
