"""MuJoCo's humanoid with a hidden walking direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from metarl.envs.core.parameters import Range
from metarl.envs.mujoco.locomotion import Angle, Locomotion, squares
from metarl.envs.mujoco.simulator import (
    Body,
    Physics,
    load,
)

HUMANOID = Body(
    "Humanoid-v5", "humanoid.xml", 5, 0.015, 45, 17, 0.4, 0.01, False, 2, 3.1, forces=True
)


@dataclass(frozen=True)
class HumanoidDir(Locomotion):
    """Walk in a hidden direction of the plane.

    Action: torques of 17 joints, clipped to [-0.4, 0.4]. Observation: height in m, orientation as a
    quaternion, 17 joint angles in rad, and the velocities of all of these and of x and y, in m/s
    and rad/s. Reward: 1.25 * speed of the center of mass along the target direction in m/s + 5 -
    0.1 |action|^2 - min(5e-7 |contact forces|^2, 10). Start: as in Gymnasium, noise 0.01. End: a
    height outside (1, 2) m, or after `horizon` steps of 0.015 s.

    Reference returns: zero torque gets about 197, almost all of it for surviving the 40 steps until
    the fall. Always walking in one direction gets only the survival reward on average. No oracle is
    known. Source: Rothfuss et al. 2019, ProMP (arXiv:1810.06784), on Gymnasium's Humanoid-v5
    without inertias, forces and torques in the observation.
    """

    angle: Range = Range(-math.pi, math.pi, "rad")

    limits: ClassVar[dict[str, tuple[float, float]]] = {"angle": (-100, 100)}
    name: ClassVar[str] = "humanoid-dir"
    source: ClassVar[str] = "ProMP (arXiv:1810.06784), Gymnasium Humanoid-v5"
    task_type: ClassVar[type] = Angle
    body: ClassVar[Body] = HUMANOID
    settings: ClassVar[dict[str, Any]] = {
        "include_cinert_in_observation": False,
        "include_cvel_in_observation": False,
        "include_qfrc_actuator_in_observation": False,
        "include_cfrc_ext_in_observation": False,
    }

    def healthy(self, physics: Physics) -> Tensor:
        height = physics.qpos[..., 2]
        return (height > 1.0) & (height < 2.0)

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Angle) -> Tensor:
        mass = torch.from_numpy(load(self.body.xml).body_mass)[:, None]
        moved = ((after.centers - before.centers) * mass / mass.sum()).sum(-2)[..., :2]
        along = moved[..., 0] * task.angle.cos() + moved[..., 1] * task.angle.sin()
        contact = (5e-7 * squares(after.contact).sum(-1)).clamp(max=10)
        return 1.25 * along / self.body.dt + 5.0 - 0.1 * squares(act) - contact
