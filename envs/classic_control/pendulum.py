"""Gymnasium's Pendulum with hidden physics and a hidden sign of the torque."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from metarl.envs.core.parameters import Choice, Range
from metarl.envs.core.value_limits import HORIZON, check_constants


class Task(NamedTuple):
    """Physics of N tasks. Every field: (N, 1)."""

    g: Tensor  # m/s^2
    m: Tensor  # kg
    l: Tensor  # noqa: E741 - m, the whole rod
    inverted: Tensor  # 1 if the sign of the torque is inverted


class State(NamedTuple):
    """B episodes of each of N tasks. Every field: (N, B)."""

    theta: Tensor  # rad, 0 is upright, counterclockwise is positive; not wrapped
    theta_dot: Tensor  # rad/s


@dataclass(frozen=True)
class Pendulum:
    """Swing a rod up and hold it upright with a weak motor of hidden sign and load.

    Action: torque in [-2, 2] N m, with the sign flipped if `inverted` is 1.
    Observation: cosine and sine of the angle, angular velocity in rad/s.
    Reward: -(angle^2 + 0.1 speed^2 + 0.001 torque^2), with the angle in [-pi, pi] from upright.
    Start: uniform angle, angular velocity uniform in [-1, 1] rad/s.
    End: after `horizon` steps only. The horizon is half of Gymnasium's 200, since even the heaviest
    variants are upright after 90 steps and later rewards don't discriminate between agents.

    Reference returns, computed by tests: an oracle that knows the physics swings up every variant
    and gets -131. Given the wrong sign of the torque it gets -861, so behavior that is optimal for
    one sign alone gets about -496. Doing nothing gets -624, random actions -626. This family hardly
    requires adaptation: the best policy found without memory, whose actions are equal in mirrored
    states, gets -200 on test tasks (PPO, 3M steps; docs/bounds.csv), as much as adaptive agents.
    Behavior that swings up and holds the rod with one sign does the same, mirrored, with the
    other, and the motion of the rod reveals the sign.

    Source: equations of Gymnasium's Pendulum-v1, which is the default task.
    """

    g: Range = Range(8.0, 12.0, "m/s^2", extrapolation=(6.0, 14.0), default=10.0)
    m: Range = Range(0.6, 1.2, "kg", extrapolation=(0.4, 1.4), default=1.0)
    l: Range = Range(0.7, 1.2, "m", extrapolation=(0.5, 1.3), default=1.0)  # noqa: E741, Gymnasium's name
    inverted: Choice = Choice((0.0, 1.0))
    horizon: int = 100  # steps, 5 s

    name: ClassVar[str] = "pendulum"
    source: ClassVar[str] = "Gymnasium's Pendulum-v1"
    task_type: ClassVar[type] = Task
    reset_noise: ClassVar[int] = 2
    step_noise: ClassVar[int] = 0
    dt: ClassVar[float] = 0.05  # s per step
    max_torque: ClassVar[float] = 2.0  # N m
    max_speed: ClassVar[float] = 8.0  # rad/s

    def __post_init__(self) -> None:
        check_constants(
            self, g=(0, 1e3), m=(1e-6, 1e6), l=(1e-6, 1e6), inverted=(0, 1), horizon=HORIZON
        )

    @property
    def observation_space(self) -> Box:
        high = np.array([1.0, 1.0, self.max_speed], np.float32)
        return Box(-high, high)

    @property
    def action_space(self) -> Box:
        return Box(-self.max_torque, self.max_torque, (1,), np.float32)

    def reset(self, task: Task, noise: Tensor) -> State:
        theta, theta_dot = (2 * noise - 1).unbind(-1)
        return State(math.pi * theta, theta_dot)

    def observe(self, state: State) -> Tensor:
        return torch.stack((state.theta.cos(), state.theta.sin(), state.theta_dot), dim=-1)

    def step(
        self, state: State, act: Tensor, task: Task, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        torque = act.squeeze(-1).clamp(-self.max_torque, self.max_torque) * (1 - 2 * task.inverted)
        angle = (state.theta + math.pi).remainder(2 * math.pi) - math.pi
        # As in Gymnasium, the cost is that of the state before the step.
        cost = angle.square() + 0.1 * state.theta_dot.square() + 0.001 * torque.square()
        fall = 3 * task.g / (2 * task.l)  # 1/s^2
        inertia = task.m * task.l.square() / 3  # kg m^2, of a uniform rod about its end
        theta_dot = state.theta_dot + (fall * state.theta.sin() + torque / inertia) * self.dt
        theta_dot = theta_dot.clamp(-self.max_speed, self.max_speed)
        nxt = State(state.theta + self.dt * theta_dot, theta_dot)
        return nxt, -cost, torch.zeros_like(cost, dtype=torch.bool)

    def oracle(self, state: State, task: Task) -> Tensor:
        """Energy-based swing-up, then feedback that cancels gravity; not optimal; (N, B, 1)."""
        speed = state.theta_dot
        angle = (state.theta + math.pi).remainder(2 * math.pi) - math.pi
        inertia, weight = task.m * task.l.square() / 3, task.m * task.g * task.l / 2
        # Energy missing to stand upright, J. Torque along the motion adds it fastest.
        missing = weight * (1 - angle.cos()) - inertia * speed.square() / 2
        pump = torch.where(speed < 0, -1.0, 1.0) * 4 * missing
        hold = -weight * angle.sin() - inertia * (16 * angle + 8 * speed)
        near = (angle + 0.2 * speed).abs() < self.max_torque / weight
        torque = torch.where(near & (angle.abs() < 1), hold, pump)
        torque = torque.clamp(-self.max_torque, self.max_torque) * (1 - 2 * task.inverted)
        return torque.unsqueeze(-1)

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """The rod at 110 pixels per meter; its width shows the mass, trailing dots the speed."""
        from metarl.envs.core.canvas import Canvas

        canvas, middle = Canvas(320, 320, (250, 250, 248)), 160
        theta, speed = state.theta[0, 0].item(), state.theta_dot[0, 0].item()
        reach, thick = 110 * task.l[0, 0].item(), 20 * task.m[0, 0].item() ** 0.5
        canvas.disc(middle, middle, reach + 12, (228, 232, 238))
        canvas.disc(middle, middle, reach + 10, (250, 250, 248))
        canvas.disc(middle, middle - reach - 11, 6, (60, 160, 90))  # target of the tip
        for k in range(9):  # positions of the tip in the last 0.16 s, extrapolated linearly
            past = theta - 0.02 * k * speed
            x, y = middle - reach * math.sin(past), middle - reach * math.cos(past)
            canvas.disc(x, y, 7 - 0.6 * k, (240, 200 + 5 * k, 170 + 8 * k))
        tip = (middle - reach * math.sin(theta), middle - reach * math.cos(theta))
        canvas.line((middle, middle), tip, thick, (200, 80, 70))
        canvas.disc(*tip, thick / 2, (200, 80, 70))
        canvas.disc(middle, middle, thick / 2 + 4, (60, 65, 75))
        canvas.disc(middle, middle, 4, (250, 250, 248))
        return canvas.array()
