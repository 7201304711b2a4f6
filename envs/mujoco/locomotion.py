"""What families of MuJoCo bodies share: a simulator, and Gymnasium's models."""

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

    direction: Tensor  # 1 forwards, -1 backwards


class Angle(NamedTuple):
    """N tasks. Every field: (N, 1)."""

    angle: Tensor  # rad from the x axis


class Velocity(NamedTuple):
    """N tasks. Every field: (N, 1)."""

    velocity: Tensor  # m/s


@dataclass(frozen=True)
class Locomotion:
    """What the families of MuJoCo bodies share; each says what it rewards and what varies.

    Attributes:
        threads: that step the bodies; 0 is as many as torch uses. Results don't depend on it.
    """

    horizon: int = 200  # steps
    threads: int = 0

    name: ClassVar[str]
    source: ClassVar[str]
    task_type: ClassVar[type]
    body: ClassVar[Body]
    limits: ClassVar[dict[str, tuple[float, float]]] = {}  # of what varies, see check_constants
    settings: ClassVar[dict[str, Any]] = {}  # of Gymnasium's environment, for the same world

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
        """Start `episodes` episodes of each task."""
        return MujocoSimulator(self, task, episodes, gen)

    def observe(self, physics: Physics) -> Tensor:
        """Positions and speeds, (N, B, observes)."""
        limit = self.body.speed_limit
        seen = physics.qpos[..., self.body.hides :]
        return torch.cat((seen, physics.qvel.clamp(-limit, limit)), -1)

    def healthy(self, physics: Physics) -> Tensor:
        """Whether an episode goes on, (N, B)."""
        return torch.ones_like(physics.qpos[..., 0], dtype=torch.bool)

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Any) -> Tensor:
        """Of one step, (N, B). Args: act (N, B, acts), clipped."""
        raise NotImplementedError

    def models(self, task: Any) -> list[Any]:
        """MuJoCo's model of each task; all the same, where bodies don't vary."""
        if type(self).shape is Locomotion.shape:
            return [load(self.body.xml)] * len(task[0])
        return variants(self.body.xml, task_values(task), self.shape)

    def shape(self, model: Any, values: dict[str, float]) -> None:
        """Make this model of Gymnasium's that of the task."""

    def make_env(self, render: bool = False, **values: float) -> Any:
        """Gymnasium's own environment with the body of one task, to look at or to compare with.

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
        """Whether MuJoCo can draw here: it needs OpenGL, or MUJOCO_GL=egl or osmesa."""
        return can_draw()


def squares(x: Tensor) -> Tensor:
    """Sum of squares over the last axis."""
    return x.square().sum(-1)
