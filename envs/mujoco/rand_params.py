"""Walkers and hoppers whose every mass, inertia, friction and joint is drawn anew."""

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
    """Task of a body of a torso and limbs, each of which turns in the joint of its name."""
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
    """What the two families share; their docstrings say all."""

    mass: Range = Range(1.5**-3, 1.5**3, log=True)
    inertia: Range = Range(1.5**-3, 1.5**3, log=True)
    friction: Range = Range(1.5**-3, 1.5**3, log=True)
    damping: Range = Range(1.3**-3, 1.3**3, log=True)

    limits: ClassVar[dict[str, tuple[float, float]]] = dict.fromkeys(
        ("mass", "inertia", "friction", "damping"), (1e-3, 1e3)
    )

    @property
    def parameters(self) -> dict[str, Range]:
        """A multiplier for each element."""
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
    """Walk forwards on two legs whose masses, inertias, frictions and joints are not known.

    Action: torques of six joints, in [-1, 1] and clipped to it. Observation: height m, pitch and
    six joint angles rad, and the speeds of all and of x, clipped to 10 m/s and rad/s. Reward:
    forward speed m/s + 1 - 0.001 |action|^2. Start: Gymnasium's, noise of 0.005. End: a height
    outside (0.8, 2) m, a pitch outside (-1, 1) rad, or after `horizon` steps of 0.008 s.

    Hidden: independent multipliers, uniform in the logarithm, of each body's mass and inertia and
    of the friction of what touches the ground (1.5^-3 to 1.5^3), and of each joint's damping
    (1.3^-3 to 1.3^3). Frictions of parts that can't touch it alive, and inertias about axes that a
    plane doesn't have, do nothing and are left out.

    Anchors: going limp gets about 86, and falls after 100 steps. A sturdy gait does well in many
    variants, so this measures robustness as much as adaptation. No oracle is known. Source:
    Rothfuss et al. 2019, ProMP (arXiv:1810.06784), and Rakelly et al. 2019, PEARL
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
    """Hop forwards on one leg whose masses, inertias, frictions and joints are not known.

    Action: torques of three joints, in [-1, 1] and clipped to it. Observation: height m, pitch and
    three joint angles rad, and the speeds of all and of x, clipped to 10 m/s and rad/s. Reward:
    forward speed m/s + 1 - 0.001 |action|^2. Start: Gymnasium's, noise of 0.005. End: a height of
    0.7 m or less, a pitch outside (-0.2, 0.2) rad, any number of the state from 100, or after
    `horizon` steps of 0.008 s.

    Hidden: as in walker2d-rand-params.

    Anchors: going limp gets about 148, and falls after 150 steps. A sturdy gait does well in many
    variants, so this measures robustness as much as adaptation. No oracle is known. Source: as
    walker2d-rand-params; on Gymnasium's Hopper-v5.
    """

    name: ClassVar[str] = "hopper-rand-params"
    source: ClassVar[str] = "rand_param_envs in PEARL (arXiv:1903.08254), Gymnasium Hopper-v5"
    task_type: ClassVar[type] = record("HopperTask", SIDE, ("leg", "foot"))
    body: ClassVar[Body] = HOPPER

    def healthy(self, physics: Physics) -> Tensor:
        height, pitch = physics.qpos[..., 1], physics.qpos[..., 2]
        small = (physics.qpos[..., 2:].abs() < 100).all(-1) & (physics.qvel.abs() < 100).all(-1)
        return small & (height > 0.7) & (pitch.abs() < 0.2)
