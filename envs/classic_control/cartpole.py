"""Gymnasium's CartPole with hidden physics, a hidden action mapping and a hidden target."""

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

    gravity: Tensor  # m/s^2
    masscart: Tensor  # kg
    masspole: Tensor  # kg
    length: Tensor  # m, half the length of the pole
    force_mag: Tensor  # N
    inverted: Tensor  # 1 if action 0 pushes right and action 1 left
    target: Tensor  # m, target position of the cart


class State(NamedTuple):
    """B episodes of each of N tasks. Every field: (N, B)."""

    x: Tensor  # m
    x_dot: Tensor  # m/s
    theta: Tensor  # rad, 0 is upright
    theta_dot: Tensor  # rad/s


@dataclass(frozen=True)
class CartPole:
    """Balance a pole on a cart and move the cart to a hidden target, with hidden physics.

    Action: 0 pushes left, 1 right; swapped if `inverted` is 1. Observation: cart position in m,
    velocity in m/s, pole angle in rad, angular velocity in rad/s. Reward: 1 / (1 + (d / width)^2)
    per step, where d is the distance of the cart from `target` after the step: 1 at the target, 0.5
    at distance `width`. Start: each uniform in [-0.05, 0.05]. End: |x| > 2.4 m, |theta| > 12
    degrees, or after `horizon` steps.

    Reference returns, computed by tests: no policy that doesn't observe rewards gets more than
    `bound()`, 56.9 on average over the tasks of any split, even with a memory of observations and
    actions. Proof: neither dynamics nor observations depend on `target`, which is drawn
    independently of everything else, so neither does the cart position x at any step. Hence the
    expected reward of a step is at most the maximum over x of the mean reward over targets, width /
    high * atan(high / width) at x = 0, and steps after the end have reward 0. Standing in the
    middle nearly reaches the bound, and a memoryless policy can do so under both action mappings,
    so `inverted` alone would not require adaptation: a policy that is even in the observation takes
    equal actions in mirrored states, and the motion of the pole then reveals the mapping. The
    oracle, a linear feedback that knows the task, gets 150 (126 in extrapolation, where one episode
    in seven falls). Random actions get 7.

    Source: Barto, Sutton and Anderson 1983, with the equations of Gymnasium's CartPole-v1, which is
    the default task except for the reward: Gymnasium's is 1 per step.
    """

    gravity: Range = Range(6.0, 14.0, "m/s^2", extrapolation=(4.0, 20.0), default=9.8)
    masscart: Range = Range(0.5, 2.0, "kg", extrapolation=(0.3, 3.0), default=1.0)
    masspole: Range = Range(0.05, 0.3, "kg", extrapolation=(0.02, 0.5), default=0.1)
    length: Range = Range(0.3, 0.9, "m", extrapolation=(0.2, 1.2), default=0.5)
    force_mag: Range = Range(7.0, 15.0, "N", extrapolation=(5.0, 20.0), default=10.0)
    inverted: Choice = Choice((0.0, 1.0))
    target: Range = Range(-1.2, 1.2, "m")
    width: float = 0.25  # m, distance from the target at which the reward is 0.5
    horizon: int = 200  # steps, 4 s

    name: ClassVar[str] = "cartpole"
    source: ClassVar[str] = "Gymnasium CartPole-v1; Barto, Sutton and Anderson 1983"
    task_type: ClassVar[type] = Task
    reset_noise: ClassVar[int] = 4
    step_noise: ClassVar[int] = 0
    dt: ClassVar[float] = 0.02  # s per step
    x_max: ClassVar[float] = 2.4  # m
    theta_max: ClassVar[float] = 12 * 2 * math.pi / 360  # rad

    def __post_init__(self) -> None:
        check_constants(
            self,
            gravity=(0, 1e3),
            masscart=(1e-6, 1e6),
            masspole=(1e-6, 1e6),
            length=(1e-6, 1e6),
            force_mag=(0, 1e6),
            inverted=(0, 1),
            target=(-2.4, 2.4),
            width=(1e-3, 1e3),
            horizon=HORIZON,
        )

    @property
    def observation_space(self) -> Box:
        # Unbounded, since a light, short pole may swing far past the limit in its last step.
        return Box(-np.inf, np.inf, (4,), np.float32)

    @property
    def action_space(self) -> Discrete:
        return Discrete(2)

    def reset(self, task: Task, noise: Tensor) -> State:
        return State(*(0.1 * noise - 0.05).unbind(-1))

    def observe(self, state: State) -> Tensor:
        return torch.stack(state, dim=-1)

    def step(
        self, state: State, act: Tensor, task: Task, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        push = (2.0 * act.to(state.x.dtype) - 1.0) * (1.0 - 2.0 * task.inverted)
        cos, sin = state.theta.cos(), state.theta.sin()
        # Computed at each step, since a stored total mass would be wrong after masses change.
        total = task.masscart + task.masspole  # kg
        moment = task.masspole * task.length  # kg m
        temp = (push * task.force_mag + moment * state.theta_dot.square() * sin) / total
        theta_acc = (task.gravity * sin - cos * temp) / (
            task.length * (4.0 / 3.0 - task.masspole * cos.square() / total)
        )
        x_acc = temp - moment * theta_acc * cos / total
        nxt = State(
            x=state.x + self.dt * state.x_dot,
            x_dot=state.x_dot + self.dt * x_acc,
            theta=state.theta + self.dt * state.theta_dot,
            theta_dot=state.theta_dot + self.dt * theta_acc,
        )
        terminated = (nxt.x.abs() > self.x_max) | (nxt.theta.abs() > self.theta_max)
        rew = 1.0 / (1.0 + ((nxt.x - task.target) / self.width).square())
        return nxt, rew, terminated

    def bound(self) -> float:
        """Upper bound of the mean return of policies that don't observe rewards.

        The mean reward over targets is largest in the middle of their range, since the reward is
        symmetric about the target and decreases with the distance from it.
        """
        reach = (self.target.high - self.target.low) / 2
        return self.horizon * self.width / reach * math.atan(reach / self.width)

    def oracle(self, state: State, task: Task) -> Tensor:
        """Linear feedback that stabilizes every variant at its target; (N, B)."""
        tilt = (0.2 * (state.x - task.target) + 0.2 * state.x_dot).clamp(-0.14, 0.14)  # rad
        lean = state.theta + 0.3 * state.theta_dot + tilt
        return (lean > 0).long() ^ (task.inverted > 0).long()

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """Side view of cart, pole, track and target at 100 pixels per meter."""
        from metarl.envs.core.canvas import Canvas

        canvas = Canvas(480, 240, (250, 250, 248))
        x, theta = 240 + 100 * state.x[0, 0].item(), state.theta[0, 0].item()
        reach = 200 * task.length[0, 0].item()
        canvas.box(0, 198, 480, 200, (150, 150, 150))
        target = 240 + 100 * task.target[0, 0].item()
        canvas.box(target - 25, 206, target + 25, 214, (60, 160, 80))
        canvas.box(target - 1, 200, target + 1, 214, (60, 160, 80))
        canvas.box(x - 25, 180, x + 25, 200, (40, 90, 200))
        tip = (x + reach * math.sin(theta), 180 - reach * math.cos(theta))
        canvas.line((x, 180), tip, 6, (200, 110, 40))
        canvas.disc(x, 180, 4, (250, 250, 248))
        return canvas.array()
