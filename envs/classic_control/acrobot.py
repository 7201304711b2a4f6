"""Gymnasium's Acrobot with its links, and what its keys do, as hidden parameters."""

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

PUSHES = tuple(permutations((-1.0, 0.0, 1.0)))  # PUSHES[keys][key], the first is Gymnasium's


class Task(NamedTuple):
    """Physics of N tasks. Every field: (N, 1)."""

    length_1: Tensor  # m; the second link's length is in none of Gymnasium's equations
    mass_1: Tensor  # kg
    mass_2: Tensor  # kg
    com_1: Tensor  # m from the joint to the centre of mass
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
    """Swing two links up by the motor between them; what each key does, and the load, are hidden.

    Action: one of 3 keys: by default 0 turns the elbow backwards, 1 not at all, 2 forwards; `keys`
    is which of the 6 orders it is.
    Observation: cosine and sine of the first angle, of the second, then both speeds rad/s.
    Reward: -1 for each step that does not reach the goal, and where `shaped`, 100 for swinging up
    from rest, paid as the links gain mechanical energy and taken back as they lose it. Default,
    since without it play reaches the goal too seldom to show what the keys do. Which of two
    episodes that reach the goal from one start is better stays the same.
    Start: angles and speeds uniform in [-0.1, 0.1] rad, rad/s.
    End: -cos(theta_1) - cos(theta_1 + theta_2) > 1, that is with links of 1 m the tip 1 m above
    the shoulder; or after `horizon` steps. Gymnasium's are 500; good play needs 65, and so many
    that a policy which pumps badly, but for every order of the keys, would get there as well.
    Anchors: an oracle that is told the physics gets 35 (65 steps; 95 % of episodes reach the goal).
    Told the keys the wrong way round it gets -95, chance -87; in Gymnasium's reward: -65, -100,
    -100. Tests compute these. The best agent found that never adapts (ProMP's outer update alone,
    100 iterations) gets about -3: some ways to pump do for most orders of the keys, slowly. PPO
    without memory gets no more (docs/bounds.csv).
    Source: Sutton 1996, with the equations of Gymnasium's Acrobot-v1, which is the task that one
    gets by default.
    """

    length_1: Range = Range(0.8, 1.2, "m", extrapolation=(0.6, 1.4), default=1.0)
    mass_1: Range = Range(0.7, 1.3, "kg", extrapolation=(0.5, 1.5), default=1.0)
    mass_2: Range = Range(0.7, 1.3, "kg", extrapolation=(0.5, 1.5), default=1.0)
    com_1: Range = Range(0.4, 0.6, "m", extrapolation=(0.3, 0.7), default=0.5)
    com_2: Range = Range(0.4, 0.6, "m", extrapolation=(0.3, 0.7), default=0.5)
    torque: Range = Range(0.9, 1.5, "N m", extrapolation=(0.8, 2.0), default=1.0)
    keys: Choice = Choice(tuple(float(k) for k in range(len(PUSHES))))
    torque_noise: float = 0.0  # N m, uniform to either side; Gymnasium's torque_noise_max
    shaped: bool = True  # whether energy pays; False is Gymnasium's reward
    lookahead: int = 10  # steps that the oracle foresees
    horizon: int = 100  # steps, 20 s

    name: ClassVar[str] = "acrobot"
    source: ClassVar[str] = "Sutton 1996; Gymnasium's Acrobot-v1"
    task_type: ClassVar[type] = Task
    reset_noise: ClassVar[int] = 4
    dt: ClassVar[float] = 0.2  # s per step
    gravity: ClassVar[float] = 9.8  # m/s^2
    inertia: ClassVar[float] = 1.0  # kg m^2, of either link about its centre of mass
    climb_reward: ClassVar[float] = 100.0  # for the energy from rest to the goal, where shaped
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
            # A potential (Ng et al. 1999) that is the same in every state that ends an episode: of
            # two that reach the goal from one start, the shorter has the higher return, as without.
            before, after = (self._energy(s, task).clamp(max=1) for s in (state, nxt))
            rew = rew + self.climb_reward * (after - before)
        return nxt, rew, terminated

    def _motor(self, act: Tensor, task: Task) -> Tensor:
        """Torque of a key, N m."""
        push = _pushes(act.device)[task.keys.long(), act]
        return push.to(task.torque.dtype) * task.torque

    def _advance(self, state: State, torque: Tensor, task: Task) -> State:
        """One step of the classical Runge-Kutta rule of 4th order."""
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
        """Mechanical energy above hanging at rest; 1 is the least with which the goal is reached.

        At the goal the first link is level or higher; level, with the second upright, is least.
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
        """What the equations need of the links, each (N, 1)."""
        couple = task.mass_2 * task.length_1 * task.com_2  # kg m^2
        own_2 = task.mass_2 * task.com_2.square() + self.inertia
        straight = task.mass_1 * task.com_1.square() + task.mass_2 * task.length_1.square()
        weight_1 = (task.mass_1 * task.com_1 + task.mass_2 * task.length_1) * self.gravity  # N m
        weight_2 = task.mass_2 * task.com_2 * self.gravity
        return straight + own_2 + self.inertia, own_2, couple, weight_1, weight_2

    def oracle(self, state: State, task: Task) -> Tensor:
        """The key from which pumping reaches the goal soonest, or gains most energy; (N, B).

        Foresees `lookahead` steps for each of the three keys, given the physics; good, not optimal.
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
        key: Tensor = value.view(n, 3, b).argmax(1)
        return key

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """Both links from the front, each as thick as it is heavy, a dot at its centre of mass.

        Drawn 1 m long, as the goal takes them, so that the tip crosses the line when all ends.
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
    """Time derivative of angles and speeds (4, N, B), by the book's equations."""
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
