"""Walker2d and Hopper with random masses, inertias, frictions and joint dampings."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from metarl.envs.core.parameters import Range
from metarl.envs.mujoco.locomotion import Locomotion, squares
from metarl.envs.mujoco.simulator import Body, Physics

WALKER = Body("Walker2d-v5", "walker2d_v5.xml", 4, 0.008, 17, 6, 1.0, 5e-3, False, 1, 3.5, 10.0)
HOPPER = Body("Hopper-v5", "hopper.xml", 4, 0.008, 11, 3, 1.0, 5e-3, False, 1, 3.8, 10.0)
SIDE = ("thigh", "leg", "foot")
LEFT = ("thigh_left", "leg_left", "foot_left")


def record(name: str, limbs: tuple[str, ...], touching: tuple[str, ...]) -> type:
    """Task type of a body with a torso and limbs, each with a joint of its name."""
    bodies = ("torso", *limbs)
    fields = [
        *(f"body_mass_{b}" for b in bodies),
        *(f"body_inertia_{b}" for b in bodies),
        *(f"geom_friction_{g}" for g in ("floor", *touching)),
        *(f"dof_damping_{j}" for j in limbs),
    ]
    return namedtuple(name, fields)


@dataclass(frozen=True)
class RandParams(Locomotion):
    """Base class of the two families, whose docstrings describe it."""

    mass: Range = Range(1.5**-3, 1.5**3, log=True)
    inertia: Range = Range(1.5**-3, 1.5**3, log=True)
    friction: Range = Range(1.5**-3, 1.5**3, log=True)
    damping: Range = Range(1.3**-3, 1.3**3, log=True)

    limits: ClassVar[dict[str, tuple[float, float]]] = dict.fromkeys(
        ("mass", "inertia", "friction", "damping"), (1e-3, 1e3)
    )

    @property
    def parameters(self) -> dict[str, Range]:
        """A multiplier for each element of the model."""
        kinds = {
            "body_mass": self.mass,
            "body_inertia": self.inertia,
            "geom_friction": self.friction,
            "dof_damping": self.damping,
        }
        fields: tuple[str, ...] = self.task_type._fields  # type: ignore[attr-defined]
        return {name: kinds["_".join(name.split("_")[:2])] for name in fields}

    def shape(self, model: Any, values: dict[str, float]) -> None:
        for name, factor in values.items():
            field, owner = "_".join(name.split("_")[:2]), name.split("_", 2)[2]
            if field == "geom_friction":
                model.geom(owner if owner == "floor" else f"{owner}_geom").friction[:] *= factor
            elif field == "dof_damping":
                model.joint(f"{owner}_joint").damping[:] *= factor
            elif field == "body_mass":
                model.body(owner).mass[:] *= factor
            else:
                model.body(owner).inertia[:] *= factor

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Any) -> Tensor:
        speed = (after.qpos[..., 0] - before.qpos[..., 0]) / self.body.dt
        return speed + 1.0 - 1e-3 * squares(act)


@dataclass(frozen=True)
class Walker2dRandParams(RandParams):
    """Walk forward on two legs with hidden masses, inertias, frictions and joint dampings.

    Action: torques of six joints, clipped to [-1, 1]. Observation: height in m, pitch and six joint
    angles in rad, and the velocities of all of these and of x, clipped to 10 m/s or rad/s. Reward:
    forward speed in m/s + 1 - 0.001 |action|^2. Start: as in Gymnasium, noise 0.005. End: a height
    outside (0.8, 2) m, a pitch outside (-1, 1) rad, or after `horizon` steps of 0.008 s.

    Hidden: independent log-uniform multipliers of the mass and inertia of each body and of the
    friction of parts that touch the ground (1.5^-3 to 1.5^3), and of the damping of each joint
    (1.3^-3 to 1.3^3). Frictions of parts that touch the ground only after the episode has ended,
    and inertias about axes outside the plane of motion, have no effect and are left out.

    Reference returns: zero torque gets about 86 and falls after 100 steps. A robust gait does well
    in many variants, so this family measures robustness as much as adaptation. No oracle is known.
    Source: Rothfuss et al. 2019, ProMP (arXiv:1810.06784), and Rakelly et al. 2019, PEARL
    (arXiv:1903.08254), with rand_param_envs; on Gymnasium's Walker2d-v5.
    """

    name: ClassVar[str] = "walker2d-rand-params"
    source: ClassVar[str] = "rand_param_envs in ProMP (arXiv:1810.06784), Gymnasium Walker2d-v5"
    task_type: ClassVar[type] = record(
        "WalkerTask", (*SIDE, *LEFT), ("leg", "foot", "leg_left", "foot_left")
    )
    body: ClassVar[Body] = WALKER

    def healthy(self, physics: Physics) -> Tensor:
        height, pitch = physics.qpos[..., 1], physics.qpos[..., 2]
        return (height > 0.8) & (height < 2.0) & (pitch.abs() < 1.0)


@dataclass(frozen=True)
class HopperRandParams(RandParams):
    """Hop forward on one leg with hidden masses, inertias, frictions and joint dampings.

    Action: torques of three joints, clipped to [-1, 1]. Observation: height in m, pitch and three
    joint angles in rad, and the velocities of all of these and of x, clipped to 10 m/s or rad/s.
    Reward: forward speed in m/s + 1 - 0.001 |action|^2. Start: as in Gymnasium, noise 0.005. End: a
    height of at most 0.7 m, a pitch outside (-0.2, 0.2) rad, an absolute state value of 100 or
    more (positions from the pitch on, and velocities), or after `horizon` steps of 0.008 s.

    Hidden: as in walker2d-rand-params.

    Reference returns: zero torque gets about 148 and falls after 150 steps. A robust gait does well
    in many variants, so this family measures robustness as much as adaptation. No oracle is known.
    Source: as in walker2d-rand-params; on Gymnasium's Hopper-v5.
    """

    name: ClassVar[str] = "hopper-rand-params"
    source: ClassVar[str] = "rand_param_envs in PEARL (arXiv:1903.08254), Gymnasium Hopper-v5"
    task_type: ClassVar[type] = record("HopperTask", SIDE, ("leg", "foot"))
    body: ClassVar[Body] = HOPPER

    def healthy(self, physics: Physics) -> Tensor:
        height, pitch = physics.qpos[..., 1], physics.qpos[..., 2]
        bounded = (physics.qpos[..., 2:].abs() < 100).all(-1) & (physics.qvel.abs() < 100).all(-1)
        return bounded & (height > 0.7) & (pitch.abs() < 0.2)
