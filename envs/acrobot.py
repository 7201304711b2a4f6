"""Gymnasium's Acrobot with its links, and the sense of its motor, as hidden parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from envs.errors import UsageError
from envs.family import Choice, Range


class Task(NamedTuple):
    """Physics of N tasks. Every field: (N, 1)."""

    length_1: Tensor  # m; the second link's length is in none of Gymnasium's equations
    mass_1: Tensor  # kg
    mass_2: Tensor  # kg
    com_1: Tensor  # m from the joint to the centre of mass
    com_2: Tensor  # m
    torque: Tensor  # N m
    inverted: Tensor  # 1 where key 0 turns the motor forwards and key 2 backwards


class State(NamedTuple):
    """B episodes of each of N tasks. Every field: (N, B)."""

    theta_1: Tensor  # rad in [-pi, pi], 0 hangs down
    theta_2: Tensor  # rad in [-pi, pi], relative to the first link
    theta_1_dot: Tensor  # rad/s
    theta_2_dot: Tensor  # rad/s


@dataclass(frozen=True)
class Acrobot:
    """Swing two links up by the motor between them, whose sense, and whose load, are hidden.

    Action: 0 turns the elbow backwards, 1 not, 2 forwards; changed over where `inverted` is 1.
    Observation: cosine and sine of the first angle, of the second, then both speeds rad/s.
    Reward: -1 for each step that does not reach the height.
    Start: angles and speeds uniform in [-0.1, 0.1]. End: -cos(theta_1) - cos(theta_1 + theta_2)
    > 1, that is with links of 1 m the tip 1 m above the shoulder; or after `horizon` steps.
    Anchors: ANCHORS
    Source: Sutton 1996, with the equations of Gymnasium's Acrobot-v1, which is the task that one
    gets by default.
    """

    length_1: Range = Range(0.8, 1.2, "m", beyond=(0.6, 1.4), default=1.0)
    mass_1: Range = Range(0.7, 1.3, "kg", beyond=(0.5, 1.5), default=1.0)
    mass_2: Range = Range(0.7, 1.3, "kg", beyond=(0.5, 1.5), default=1.0)
    com_1: Range = Range(0.4, 0.6, "m", beyond=(0.3, 0.7), default=0.5)
    com_2: Range = Range(0.4, 0.6, "m", beyond=(0.3, 0.7), default=0.5)
    torque: Range = Range(0.9, 1.5, "N m", beyond=(0.8, 2.0), default=1.0)
    inverted: Choice = Choice((0.0, 1.0))
    torque_noise: float = 0.0  # N m, uniform to either side; Gymnasium's torque_noise_max
    horizon: int = 200  # steps, 40 s; Gymnasium's 500 are

    name: ClassVar[str] = "acrobot"
    source: ClassVar[str] = "Sutton 1996; Gymnasium's Acrobot-v1"
    task_type: ClassVar[type] = Task
    reset_noise: ClassVar[int] = 4
    dt: ClassVar[float] = 0.2  # s per step
    gravity: ClassVar[float] = 9.8  # m/s^2
    inertia: ClassVar[float] = 1.0  # kg m^2, of either link about its centre of mass
    max_speed_1: ClassVar[float] = 4 * math.pi  # rad/s
    max_speed_2: ClassVar[float] = 9 * math.pi  # rad/s

    def __post_init__(self) -> None:
        if not 0 <= self.torque_noise < math.inf:
            raise UsageError(f"Acrobot(torque_noise={self.torque_noise}): give a finite N m >= 0.")

    @property
    def step_noise(self) -> int:
        return int(self.torque_noise > 0)

    @property
    def observation_space(self) -> Box:
        high = np.array([1, 1, 1, 1, self.max_speed_1, self.max_speed_2], np.float32)
        return Box(-high, high)

    @property
    def action_space(self) -> Discrete:
        return Discrete(3)

    def reset(self, task: Task, noise: Tensor) -> State:
        return State(*(0.2 * noise - 0.1).unbind(-1))

    def observe(self, state: State) -> Tensor:
        one, two, *speeds = state
        return torch.stack((one.cos(), one.sin(), two.cos(), two.sin(), *speeds), dim=-1)

    def step(
        self, state: State, act: Tensor, task: Task, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        torque = (act.to(state[0].dtype) - 1) * (1 - 2 * task.inverted) * task.torque
        if self.torque_noise:
            torque = torque + self.torque_noise * (2 * noise.squeeze(-1) - 1)
        one, two, speed_1, speed_2 = self._advance(torch.stack(state), torque, task).unbind()
        nxt = State(
            _wrap(one),
            _wrap(two),
            speed_1.clamp(-self.max_speed_1, self.max_speed_1),
            speed_2.clamp(-self.max_speed_2, self.max_speed_2),
        )
        terminated = -nxt.theta_1.cos() - (nxt.theta_1 + nxt.theta_2).cos() > 1
        return nxt, terminated.to(torque.dtype) - 1, terminated

    def _advance(self, start: Tensor, torque: Tensor, task: Task) -> Tensor:
        """One step of the classical Runge-Kutta rule of 4th order, from (4, N, B) to the same."""
        links = self._links(task)
        k1 = _derivative(start, torque, links)
        k2 = _derivative(start + self.dt / 2 * k1, torque, links)
        k3 = _derivative(start + self.dt / 2 * k2, torque, links)
        k4 = _derivative(start + self.dt * k3, torque, links)
        return start + self.dt / 6 * (k1 + 2 * (k2 + k3) + k4)

    def _links(self, task: Task) -> tuple[Tensor, ...]:
        """What the equations need of the links, each (N, 1)."""
        couple = task.mass_2 * task.length_1 * task.com_2  # kg m^2
        own_2 = task.mass_2 * task.com_2.square() + self.inertia
        straight = task.mass_1 * task.com_1.square() + task.mass_2 * task.length_1.square()
        weight_1 = (task.mass_1 * task.com_1 + task.mass_2 * task.length_1) * self.gravity  # N m
        weight_2 = task.mass_2 * task.com_2 * self.gravity
        return straight + own_2 + self.inertia, own_2, couple, weight_1, weight_2

    def oracle(self, state: State, task: Task) -> Tensor:
        """Full torque with the elbow's motion: ORACLE (N, B)."""
        push = torch.where(state.theta_2_dot < 0, -1, 1)
        return 1 + push * (1 - 2 * task.inverted).long()


def _wrap(angle: Tensor) -> Tensor:
    return (angle + math.pi).remainder(2 * math.pi) - math.pi


def _derivative(x: Tensor, torque: Tensor, links: tuple[Tensor, ...]) -> Tensor:
    """Time derivative of angles and speeds (4, N, B), by the book's equations."""
    own_1, own_2, couple, weight_1, weight_2 = links
    theta_1, theta_2, speed_1, speed_2 = x.unbind()
    bent = couple * theta_2.cos()
    twist = couple * theta_2.sin()
    d1, d2 = own_1 + 2 * bent, own_2 + bent
    phi_2 = weight_2 * (theta_1 + theta_2).sin()
    phi_1 = weight_1 * theta_1.sin() + phi_2 - twist * speed_2 * (speed_2 + 2 * speed_1)
    ratio = d2 / d1
    acc_2 = (torque + ratio * phi_1 - twist * speed_1.square() - phi_2) / (own_2 - ratio * d2)
    acc_1 = -(d2 * acc_2 + phi_1) / d1
    return torch.stack((speed_1, speed_2, acc_1, acc_2))
