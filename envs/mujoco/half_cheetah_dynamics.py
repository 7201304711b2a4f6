"""MuJoCo's half-cheetah with hidden masses, friction, damping or gravity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from metarl.envs.core.parameters import Range
from metarl.envs.mujoco.half_cheetah import HalfCheetah
from metarl.envs.mujoco.locomotion import squares
from metarl.envs.mujoco.simulator import (
    Physics,
)


class Scale(NamedTuple):
    """N tasks. Every field: (N, 1)."""

    scale: Tensor  # factor relative to Gymnasium's model


class Gravity(NamedTuple):
    """N tasks. Every field: (N, 1)."""

    gravity: Tensor  # m/s^2, downward


class HalfCheetahBody(HalfCheetah):
    """Base class: run forward with hidden dynamics."""

    settings: ClassVar[dict[str, Any]] = {"ctrl_cost_weight": 0.1}

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Any) -> Tensor:
        return self.speed(before, after) - 0.1 * squares(act)


@dataclass(frozen=True)
class HalfCheetahMass(HalfCheetahBody):
    """Run forward with masses between 0.5 and 2 times Gymnasium's.

    Action, observation, start and end: as in half-cheetah-dir, with 200 steps. Reward: Gymnasium's,
    forward speed in m/s - 0.1 |action|^2. Inertias are scaled together with masses.

    Reference returns: standing still gets 0. No oracle is known. All tasks have the same goal, and
    the observation contains the velocities, so one robust gait works fairly well in all tasks: this
    family measures robustness as much as adaptation. Source: after Lee et al. 2020
    (arXiv:2005.06800), who train on mass factors of 0.75 to 1.25; on Gymnasium's HalfCheetah-v5.
    """

    scale: Range = Range(0.5, 2.0, extrapolation=(0.25, 4.0), log=True)

    limits: ClassVar[dict[str, tuple[float, float]]] = {"scale": (1e-3, 1e3)}
    name: ClassVar[str] = "half-cheetah-mass"
    source: ClassVar[str] = "after arXiv:2005.06800, Gymnasium HalfCheetah-v5"
    task_type: ClassVar[type] = Scale

    def shape(self, model: Any, values: dict[str, float]) -> None:
        model.body_mass[:] *= values["scale"]
        model.body_inertia[:] *= values["scale"]


@dataclass(frozen=True)
class HalfCheetahFriction(HalfCheetahBody):
    """Run forward with friction between 0.5 and 2 times Gymnasium's.

    Action, observation, reward, start and end: as in half-cheetah-mass.

    Reference returns: standing still gets 0. No oracle is known; it measures robustness as much as
    adaptation (see half-cheetah-mass). Source: after Packer et al. 2018 (arXiv:1810.12282), who
    vary friction and other parameters over other ranges; on Gymnasium's HalfCheetah-v5, whose
    friction is 0.4 everywhere.
    """

    scale: Range = Range(0.5, 2.0, extrapolation=(0.25, 4.0), log=True)

    limits: ClassVar[dict[str, tuple[float, float]]] = {"scale": (1e-3, 1e3)}
    name: ClassVar[str] = "half-cheetah-friction"
    source: ClassVar[str] = "after arXiv:1810.12282, Gymnasium HalfCheetah-v5"
    task_type: ClassVar[type] = Scale

    def shape(self, model: Any, values: dict[str, float]) -> None:
        model.geom_friction[:] *= values["scale"]


@dataclass(frozen=True)
class HalfCheetahDamping(HalfCheetahBody):
    """Run forward with joint damping between 0.5 and 2 times Gymnasium's.

    Action, observation, reward, start and end: as in half-cheetah-mass.

    Reference returns: standing still gets 0. No oracle is known; it measures robustness as much as
    adaptation (see half-cheetah-mass). Source: after Lee et al. 2020 (arXiv:2005.06800), who train
    on damping factors of 0.75 to 1.25; on Gymnasium's HalfCheetah-v5.
    """

    scale: Range = Range(0.5, 2.0, extrapolation=(0.25, 4.0), log=True)

    limits: ClassVar[dict[str, tuple[float, float]]] = {"scale": (1e-3, 1e3)}
    name: ClassVar[str] = "half-cheetah-damping"
    source: ClassVar[str] = "after arXiv:2005.06800, Gymnasium HalfCheetah-v5"
    task_type: ClassVar[type] = Scale

    def shape(self, model: Any, values: dict[str, float]) -> None:
        model.dof_damping[:] *= values["scale"]


@dataclass(frozen=True)
class HalfCheetahGravity(HalfCheetahBody):
    """Run forward under gravity between 0.5 and 1.5 times the Earth's.

    Action, observation, reward, start and end: as in half-cheetah-mass.

    Reference returns: standing still gets 0. No oracle is known; it measures robustness as much as
    adaptation (see half-cheetah-mass). Source: after Henderson et al. 2017 (arXiv:1708.04352),
    whose five values span the range here; on Gymnasium's HalfCheetah-v5.
    """

    gravity: Range = Range(4.905, 14.715, "m/s^2", extrapolation=(2.0, 20.0))

    limits: ClassVar[dict[str, tuple[float, float]]] = {"gravity": (0, 1e3)}
    name: ClassVar[str] = "half-cheetah-gravity"
    source: ClassVar[str] = "after arXiv:1708.04352, Gymnasium HalfCheetah-v5"
    task_type: ClassVar[type] = Gravity

    def shape(self, model: Any, values: dict[str, float]) -> None:
        model.opt.gravity[2] = -values["gravity"]
