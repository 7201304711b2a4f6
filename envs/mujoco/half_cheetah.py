"""MuJoCo's half-cheetah with a hidden direction or speed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from metarl.envs.core.parameters import Choice, Range
from metarl.envs.mujoco.locomotion import Direction, Locomotion, Velocity, squares
from metarl.envs.mujoco.simulator import (
    Body,
    Physics,
)

CHEETAH = Body("HalfCheetah-v5", "half_cheetah.xml", 5, 0.05, 17, 6, 1.0, 0.1, True, 1, 2.8)


class HalfCheetah(Locomotion):
    """A planar robot with six torques; falling over doesn't end the episode."""

    body: ClassVar[Body] = CHEETAH
    settings: ClassVar[dict[str, Any]] = {"ctrl_cost_weight": 0.05}

    def speed(self, before: Physics, after: Physics) -> Tensor:
        """Forward speed (N, B), m/s."""
        return (after.qpos[..., 0] - before.qpos[..., 0]) / self.body.dt


@dataclass(frozen=True)
class HalfCheetahDir(HalfCheetah):
    """Run forward or backward; the direction is hidden.

    Action: torques of six joints, clipped to [-1, 1]. Observation: height in m, pitch and six joint
    angles in rad, and the velocities of all of these and of x, in m/s and rad/s. Reward: speed in
    the target direction in m/s - 0.05 |action|^2. Start: as in Gymnasium, noise 0.1. End: after
    `horizon` steps of 0.05 s only.

    Reference returns: standing still gets 0, and so does, on average, always running in one
    direction. Training uses both tasks, so none are unseen, and the gain shows adaptation rather
    than generalization. No oracle is known. Source: Rothfuss et al. 2019, ProMP
    (arXiv:1810.06784), which also clips actions to the box; on Gymnasium's HalfCheetah-v5.
    """

    direction: Choice = Choice((1.0, -1.0))
    horizon: int = 100

    limits: ClassVar[dict[str, tuple[float, float]]] = {"direction": (-1, 1)}
    name: ClassVar[str] = "half-cheetah-dir"
    source: ClassVar[str] = "ProMP (arXiv:1810.06784), Gymnasium HalfCheetah-v5"
    task_type: ClassVar[type] = Direction

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Direction) -> Tensor:
        return task.direction * self.speed(before, after) - 0.05 * squares(act)


@dataclass(frozen=True)
class HalfCheetahVel(HalfCheetah):
    """Run at a hidden speed between 0 and 3 m/s.

    Action, observation, start and end: as in half-cheetah-dir. Reward: -|speed - target speed| in
    m/s - 0.05 |action|^2.

    Reference returns: standing still gets about -150 on average; the best constant speed, 1.5 m/s,
    at most -75. No oracle is known. Source: Rothfuss et al. 2019, ProMP (arXiv:1810.06784), on
    Gymnasium's HalfCheetah-v5. Rakelly et al. 2019, PEARL (arXiv:1903.08254), use 200 steps, so
    their returns are twice as low; Finn et al. 2017 (arXiv:1703.03400) use speeds in [0, 2] and 200
    steps of 0.01 s.
    """

    velocity: Range = Range(0.0, 3.0, "m/s", extrapolation=(0.0, 4.0))
    horizon: int = 100

    limits: ClassVar[dict[str, tuple[float, float]]] = {"velocity": (-100, 100)}
    name: ClassVar[str] = "half-cheetah-vel"
    source: ClassVar[str] = "ProMP (arXiv:1810.06784), Gymnasium HalfCheetah-v5"
    task_type: ClassVar[type] = Velocity

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Velocity) -> Tensor:
        return -(self.speed(before, after) - task.velocity).abs() - 0.05 * squares(act)
