"""Gymnasium's Acrobot with hidden links and a hidden action mapping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from metarl.envs.core.lookup_tables import table
from metarl.envs.core.parameters import Choice, Range
from metarl.envs.core.value_limits import HORIZON, check_constants

PUSHES = tuple(permutations((-1.0, 0.0, 1.0)))  # PUSHES[keys][action]; the first is Gymnasium's


class Task(NamedTuple):
    """Physics of N tasks. Every field: (N, 1)."""

    length_1: Tensor  # m; Gymnasium's equations don't use the length of the second link
    mass_1: Tensor  # kg
    mass_2: Tensor  # kg
    com_1: Tensor  # m from the joint to the center of mass
    com_2: Tensor  # m
    torque: Tensor  # N m
    keys: Tensor  # index into PUSHES


class State(NamedTuple):
    """B episodes of each of N tasks. Every field: (N, B)."""

    theta_1: Tensor  # rad in [-pi, pi], 0 hangs down
    theta_2: Tensor  # rad in [-pi, pi], relative to the first link
    theta_1_dot: Tensor  # rad/s
    theta_2_dot: Tensor  # rad/s


@dataclass(frozen=True)
class Acrobot:
    """Swing up two links with the motor between them; the action mapping and the load are hidden.

    Action: by default 0 turns the elbow backward, 1 applies no torque, 2 turns it forward. `keys`
    selects one of the 6 permutations.
    Observation: cosine and sine of the first angle, of the second, then both speeds in rad/s.
    Reward: -1 for each step that does not reach the goal. If `shaped`, also 100 in total for
    swinging up from rest, paid as the links gain mechanical energy and deducted as they lose it.
    Without shaping, episodes reach the goal too rarely to reveal the action mapping. Shaping
    doesn't change which of two episodes that reach the goal from the same start is better.
    Start: angles and speeds uniform in [-0.1, 0.1] rad and rad/s.
    End: -cos(theta_1) - cos(theta_1 + theta_2) > 1, which with links of 1 m means that the tip is
    1 m above the shoulder; or after `horizon` steps. Good behavior needs 65 steps. Within
    Gymnasium's 500 a policy that pumps badly under every mapping would also reach the goal.

    Reference returns, computed by tests: an oracle that knows the physics gets 35 (65 steps; 95% of
    episodes reach the goal). Given the reversed mapping it gets -95, random actions get -87. Under
    Gymnasium's reward: -65, -100, -100. The best agent found that never adapts (ProMP's outer
    update alone, 100 iterations) gets about -3: some ways of pumping work slowly under most
    mappings. PPO without memory gets no more (docs/bounds.csv).

    Source: Sutton 1996, with the equations of Gymnasium's Acrobot-v1, which is the default task.
    """

    length_1: Range = Range(0.8, 1.2, "m", extrapolation=(0.6, 1.4), default=1.0)
    mass_1: Range = Range(0.7, 1.3, "kg", extrapolation=(0.5, 1.5), default=1.0)
    mass_2: Range = Range(0.7, 1.3, "kg", extrapolation=(0.5, 1.5), default=1.0)
    com_1: Range = Range(0.4, 0.6, "m", extrapolation=(0.3, 0.7), default=0.5)
    com_2: Range = Range(0.4, 0.6, "m", extrapolation=(0.3, 0.7), default=0.5)
    torque: Range = Range(0.9, 1.5, "N m", extrapolation=(0.8, 2.0), default=1.0)
    keys: Choice = Choice(tuple(float(k) for k in range(len(PUSHES))))
    torque_noise: float = 0.0  # N m, half-width of uniform noise; Gymnasium's torque_noise_max
    shaped: bool = True  # whether energy is rewarded; False for Gymnasium's reward
    lookahead: int = 10  # steps that the oracle simulates
    horizon: int = 100  # steps, 20 s

    name: ClassVar[str] = "acrobot"
    source: ClassVar[str] = "Sutton 1996; Gymnasium's Acrobot-v1"
    task_type: ClassVar[type] = Task
    reset_noise: ClassVar[int] = 4
    dt: ClassVar[float] = 0.2  # s per step
    gravity: ClassVar[float] = 9.8  # m/s^2
    inertia: ClassVar[float] = 1.0  # kg m^2, of either link about its center of mass
    climb_reward: ClassVar[float] = 100.0  # for the energy from rest to the goal, if shaped
    max_speed_1: ClassVar[float] = 4 * math.pi  # rad/s
    max_speed_2: ClassVar[float] = 9 * math.pi  # rad/s

    def __post_init__(self) -> None:
        check_constants(
            self,
            length_1=(1e-6, 1e6),
            mass_1=(1e-6, 1e6),
            mass_2=(1e-6, 1e6),
            com_1=(1e-6, 1e6),
            com_2=(1e-6, 1e6),
            torque=(0, 1e6),
            keys=(0, len(PUSHES) - 1),
            torque_noise=(0, 1e6),
            lookahead=(1, 1000),
            horizon=HORIZON,
        )

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
        torque = self._motor(act, task)
        if self.torque_noise:
            torque = torque + self.torque_noise * (2 * noise.squeeze(-1) - 1)
        nxt = self._advance(state, torque, task)
        terminated = _reached(nxt)
        rew = terminated.to(torque.dtype) - 1
        if self.shaped:
            # A shaping potential (Ng et al. 1999) that is equal in all terminal states: of two
            # episodes that reach the goal from one start, the shorter keeps the higher return.
            before, after = (self._energy(s, task).clamp(max=1) for s in (state, nxt))
            rew = rew + self.climb_reward * (after - before)
        return nxt, rew, terminated

    def _motor(self, act: Tensor, task: Task) -> Tensor:
        """Torque of an action, N m."""
        push = _pushes(act.device)[task.keys.long(), act]
        return push.to(task.torque.dtype) * task.torque

    def _advance(self, state: State, torque: Tensor, task: Task) -> State:
        """Next state by the classical fourth-order Runge-Kutta method."""
        links, start = self._links(task), torch.stack(state)
        k1 = _derivative(start, torque, links)
        k2 = _derivative(start + self.dt / 2 * k1, torque, links)
        k3 = _derivative(start + self.dt / 2 * k2, torque, links)
        k4 = _derivative(start + self.dt * k3, torque, links)
        one, two, speed_1, speed_2 = (start + self.dt / 6 * (k1 + 2 * (k2 + k3) + k4)).unbind()
        return State(
            (one + math.pi).remainder(2 * math.pi) - math.pi,
            (two + math.pi).remainder(2 * math.pi) - math.pi,
            speed_1.clamp(-self.max_speed_1, self.max_speed_1),
            speed_2.clamp(-self.max_speed_2, self.max_speed_2),
        )

    def _energy(self, state: State, task: Task) -> Tensor:
        """Mechanical energy above hanging at rest, in units of the minimum needed for the goal.

        The minimum is reached with the first link level and the second upright.
        """
        own_1, own_2, couple, weight_1, weight_2 = self._links(task)
        one, two, speed_1, speed_2 = state
        hvp = couple * two.cos()
        moving = speed_1.square() * (own_1 / 2 + hvp) + speed_2 * (
            speed_1 * (own_2 + hvp) + speed_2 * (own_2 / 2)
        )
        height = weight_1 * (1 - one.cos()) + weight_2 * (1 - (one + two).cos())
        return (moving + height) / (weight_1 + 2 * weight_2)

    def _links(self, task: Task) -> tuple[Tensor, ...]:
        """Constants of the equations of motion, each (N, 1)."""
        couple = task.mass_2 * task.length_1 * task.com_2  # kg m^2
        own_2 = task.mass_2 * task.com_2.square() + self.inertia
        straight = task.mass_1 * task.com_1.square() + task.mass_2 * task.length_1.square()
        weight_1 = (task.mass_1 * task.com_1 + task.mass_2 * task.length_1) * self.gravity  # N m
        weight_2 = task.mass_2 * task.com_2 * self.gravity
        return straight + own_2 + self.inertia, own_2, couple, weight_1, weight_2

    def oracle(self, state: State, task: Task) -> Tensor:
        """Action after which pumping reaches the goal soonest, or gains the most energy; (N, B).

        Simulates `lookahead` steps for each of the three actions with the true physics; not
        optimal.
        """
        plan = State(*(x.repeat(1, 3) for x in state))
        n, b = state.theta_1.shape
        act = torch.arange(3, device=plan.theta_1.device).repeat_interleave(b).expand(n, 3 * b)
        torque = self._motor(act, task)
        reached = torch.zeros_like(plan.theta_1)
        for _ in range(self.lookahead):
            plan = self._advance(plan, torque, task)
            reached = torch.where(_reached(plan) | (reached > 0), reached + 1, 0)
            torque = task.torque * torch.where(plan.theta_2_dot < 0, -1.0, 1.0)
        value = 1e3 * reached + self._energy(plan, task)
        best: Tensor = value.view(n, 3, b).argmax(1)
        return best

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """Both links; their widths show the masses, dots the centers of mass.

        Links are drawn 1 m long, as in the goal condition, so the tip crosses the line at the goal.
        """
        from metarl.envs.core.canvas import Canvas

        canvas, scale, middle = Canvas(340, 340, (250, 250, 248)), 75, 170
        canvas.box(0, middle - scale - 1, 340, middle - scale + 1, (60, 160, 90))
        x, y, angle = float(middle), float(middle), 0.0
        canvas.disc(x, y, 15, (210, 214, 220))
        looks = (
            (task.mass_1, task.com_1, (40, 90, 200)),
            (task.mass_2, task.com_2, (225, 120, 50)),
        )
        for turn, (mass, com, color) in zip(state[:2], looks, strict=True):
            angle += turn[0, 0].item()
            dx, dy, thick = scale * math.sin(angle), scale * math.cos(angle), 15 * mass[0, 0].item()
            canvas.line((x, y), (x + dx, y + dy), thick, color)
            for end in ((x, y), (x + dx, y + dy)):
                canvas.disc(*end, thick / 2, color)
            where = com[0, 0].item()
            canvas.disc(x + where * dx, y + where * dy, 3, (250, 250, 248))
            canvas.disc(x, y, 5, (60, 65, 75))
            x, y = x + dx, y + dy
        canvas.disc(x, y, 4, (250, 250, 248))
        return canvas.array()


@table
def _pushes(device: torch.device) -> Tensor:
    return torch.tensor(PUSHES).to(device)


def _reached(state: State) -> Tensor:
    return -state.theta_1.cos() - (state.theta_1 + state.theta_2).cos() > 1


def _derivative(x: Tensor, torque: Tensor, links: tuple[Tensor, ...]) -> Tensor:
    """Time derivative of angles and speeds (4, N, B), by the equations of Sutton and Barto."""
    own_1, own_2, couple, weight_1, weight_2 = links
    theta_1, theta_2, speed_1, speed_2 = x.unbind()
    hvp = couple * theta_2.cos()
    twist = couple * theta_2.sin()
    d1, d2 = own_1 + 2 * hvp, own_2 + hvp
    phi_2 = weight_2 * (theta_1 + theta_2).sin()
    phi_1 = weight_1 * theta_1.sin() + phi_2 - twist * speed_2 * (speed_2 + 2 * speed_1)
    ratio = d2 / d1
    acc_2 = (torque + ratio * phi_1 - twist * speed_1.square() - phi_2) / (own_2 - ratio * d2)
    acc_1 = -(d2 * acc_2 + phi_1) / d1
    return torch.stack((speed_1, speed_2, acc_1, acc_2))
