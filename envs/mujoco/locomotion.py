"""The base class of MuJoCo locomotion families, with Gymnasium's models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from metarl.envs.core.family import make_task, task_values
from metarl.envs.core.optional_packages import need
from metarl.envs.core.value_limits import HORIZON, check_constants
from metarl.envs.mujoco.simulator import (
    Body,
    MujocoSimulator,
    Physics,
    can_draw,
    load,
    refresh,
    variants,
)


class Direction(NamedTuple):
    """N tasks. Every field: (N, 1)."""

    direction: Tensor  # 1 forward, -1 backward


class Angle(NamedTuple):
    """N tasks. Every field: (N, 1)."""

    angle: Tensor  # rad from the x axis


class Velocity(NamedTuple):
    """N tasks. Every field: (N, 1)."""

    velocity: Tensor  # m/s


@dataclass(frozen=True)
class Locomotion:
    """Base class of MuJoCo families; subclasses define the reward and the parameters.

    Attributes:
        threads: number of simulation threads; 0 for as many as torch uses. Results don't depend on
            it.
    """

    horizon: int = 200  # steps
    threads: int = 0

    name: ClassVar[str]
    source: ClassVar[str]
    task_type: ClassVar[type]
    body: ClassVar[Body]
    limits: ClassVar[dict[str, tuple[float, float]]] = {}  # of the parameters, see check_constants
    settings: ClassVar[dict[str, Any]] = {}  # arguments of the equivalent Gymnasium environment

    def __post_init__(self) -> None:
        check_constants(self, horizon=HORIZON, threads=(0, 1024), **self.limits)
        need(self.name, "mujoco", "mujoco")

    @property
    def observation_space(self) -> Box:
        return Box(-np.inf, np.inf, (self.body.observes,), np.float32)

    @property
    def action_space(self) -> Box:
        return Box(-self.body.reach, self.body.reach, (self.body.acts,), np.float32)

    def simulate(
        self, task: Any, episodes: int, gen: torch.Generator | None, render: bool = False
    ) -> MujocoSimulator:
        """A simulator for `episodes` episodes of each task."""
        return MujocoSimulator(self, task, episodes, gen)

    def observe(self, physics: Physics) -> Tensor:
        """Observations (N, B, observes): positions and velocities."""
        limit = self.body.speed_limit
        qpos = physics.qpos[..., self.body.hides :]
        return torch.cat((qpos, physics.qvel.clamp(-limit, limit)), -1)

    def healthy(self, physics: Physics) -> Tensor:
        """Whether episodes continue, (N, B) bool."""
        return torch.ones_like(physics.qpos[..., 0], dtype=torch.bool)

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Any) -> Tensor:
        """Reward (N, B) of one step.

        Args:
            act: (N, B, acts) clipped actions.
        """
        raise NotImplementedError

    def models(self, task: Any) -> list[Any]:
        """MuJoCo model of each task; one shared model if bodies don't vary."""
        if type(self).shape is Locomotion.shape:
            return [load(self.body.xml)] * len(task[0])
        return variants(self.body.xml, task_values(task), self.shape)

    def shape(self, model: Any, values: dict[str, float]) -> None:
        """Modify a copy of Gymnasium's model for a task with these parameters."""

    def make_env(self, render: bool = False, **values: float) -> Any:
        """Gymnasium's environment with the body of one task, for viewing or comparison.

        Its reward is Gymnasium's, not the family's.
        """
        import gymnasium

        task = make_task(self, **values)  # type: ignore[arg-type]  # it simulates itself
        env = gymnasium.make(
            self.body.environment,
            max_episode_steps=self.horizon,
            render_mode="rgb_array" if render else None,
            **self.settings,
        )
        model = env.unwrapped.model  # type: ignore[attr-defined]
        self.shape(model, task_values(task)[0])
        refresh(model)
        return env

    def can_be_filmed(self) -> bool:
        """Whether MuJoCo can render: it needs OpenGL, or MUJOCO_GL=egl or osmesa."""
        return can_draw()


def squares(x: Tensor) -> Tensor:
    """Sum of squares over the last axis."""
    return x.square().sum(-1)
