"""MuJoCo's ant with a hidden direction, speed or goal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from metarl.envs.core.parameters import Choice, Range
from metarl.envs.mujoco.locomotion import Angle, Direction, Locomotion, Velocity, squares
from metarl.envs.mujoco.simulator import (
    Body,
    Physics,
)

ANT = Body("Ant-v5", "ant.xml", 5, 0.05, 27, 8, 1.0, 0.1, True, 2, 3.3, forces=True)


class Goal(NamedTuple):
    """N tasks. Every field: (N, 1)."""

    goal_x: Tensor  # m
    goal_y: Tensor  # m


class Ant(Locomotion):
    """A robot with four legs and eight torques; falling or jumping too high ends the episode.

    Contact forces are computed as in Gymnasium, although they were zero in many published runs
    with MuJoCo 2. Their cost is small, at most about 0.04 per step.
    """

    body: ClassVar[Body] = ANT
    settings: ClassVar[dict[str, Any]] = {"include_cfrc_ext_in_observation": False}

    def velocity_of_torso(self, before: Physics, after: Physics) -> Tensor:
        """Velocity (N, B, 2) along x and y, m/s; the torso is a sphere about its center of mass."""
        moved = after.centers[..., 1, :2] - before.centers[..., 1, :2]
        return moved / self.body.dt

    def contact_cost(self, after: Physics) -> Tensor:
        return 5e-4 * squares(after.contact.clamp(-1, 1)).sum(-1)

    def healthy(self, physics: Physics) -> Tensor:
        height = physics.qpos[..., 2]
        return (height >= 0.2) & (height <= 1.0)

    def run(self, before: Physics, after: Physics, act: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Reward (N, B): speed along the unit vector (x, y), survival reward and costs."""
        speed = self.velocity_of_torso(before, after)
        forward = speed[..., 0] * x + speed[..., 1] * y
        return forward + 1.0 - 0.5 * squares(act) - self.contact_cost(after)


@dataclass(frozen=True)
class AntDir(Ant):
    """Walk forward or backward on four legs; the direction is hidden.

    Action: torques of eight joints, clipped to [-1, 1]. Observation: height in m, orientation as a
    quaternion, eight joint angles in rad, and the velocities of all of these and of x and y, in m/s
    and rad/s. Reward: speed in the target direction in m/s + 1 - 0.5 |action|^2 - 0.0005 |contact
    forces, each clipped to 1|^2. Start: as in Gymnasium, noise 0.1. End: a height outside
    [0.2, 1] m, or after `horizon` steps of 0.05 s.

    Reference returns: standing still gets about 200 for surviving, and so does, on average, always
    walking in one direction. Training uses both tasks, so none are unseen. No oracle is known.
    Source: Rothfuss et al. 2019, ProMP (arXiv:1810.06784), with the lower limit of 0.2 m and the
    observation without contact forces of Rakelly et al. 2019, PEARL (arXiv:1903.08254); on
    Gymnasium's Ant-v5.
    """

    direction: Choice = Choice((1.0, -1.0))

    limits: ClassVar[dict[str, tuple[float, float]]] = {"direction": (-1, 1)}
    name: ClassVar[str] = "ant-dir"
    source: ClassVar[str] = "ProMP (arXiv:1810.06784), Gymnasium Ant-v5"
    task_type: ClassVar[type] = Direction

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Direction) -> Tensor:
        return self.run(before, after, act, task.direction, torch.zeros_like(task.direction))


@dataclass(frozen=True)
class AntDir2D(Ant):
    """Walk in a hidden direction of the plane on four legs.

    Action, observation, reward, start and end: as in ant-dir.

    Reference returns: standing still gets about 200 for surviving, and so does, on average, always
    walking in one direction. No oracle is known. Source: Rakelly et al. 2019, PEARL
    (arXiv:1903.08254); on Gymnasium's Ant-v5.
    """

    angle: Range = Range(-math.pi, math.pi, "rad")

    limits: ClassVar[dict[str, tuple[float, float]]] = {"angle": (-100, 100)}
    name: ClassVar[str] = "ant-dir-2d"
    source: ClassVar[str] = "PEARL (arXiv:1903.08254), Gymnasium Ant-v5"
    task_type: ClassVar[type] = Angle

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Angle) -> Tensor:
        return self.run(before, after, act, task.angle.cos(), task.angle.sin())


@dataclass(frozen=True)
class AntVel(Ant):
    """Walk along x at a hidden speed between 0 and 3 m/s.

    Action, observation, start and end: as in ant-dir. Reward: 1.05 - |speed - target speed| in m/s
    - 0.005 |action|^2 - contact forces as in ant-dir.

    Reference returns: with 200 steps, standing still gets -90 on average; the best constant speed,
    1.5 m/s, at most 60. No oracle is known. Source: Finn et al. 2017, MAML (arXiv:1703.03400), on
    Gymnasium's Ant-v5, with steps of 0.05 s instead of rllab's 0.02 s, and without contact forces
    and rotation matrix in the observation.
    """

    velocity: Range = Range(0.0, 3.0, "m/s", extrapolation=(0.0, 4.0))

    limits: ClassVar[dict[str, tuple[float, float]]] = {"velocity": (-100, 100)}
    name: ClassVar[str] = "ant-vel"
    source: ClassVar[str] = "MAML (arXiv:1703.03400), Gymnasium Ant-v5"
    task_type: ClassVar[type] = Velocity

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Velocity) -> Tensor:
        off = (self.velocity_of_torso(before, after)[..., 0] - task.velocity).abs()
        return 1.05 - off - 0.005 * squares(act) - self.contact_cost(after)


@dataclass(frozen=True)
class AntGoal(Ant):
    """Walk to a hidden goal.

    Action and start: as in ant-dir. Observation: as in ant-dir, plus the position x and y in m.
    Reward: -(|x - goal_x| + |y - goal_y|) - 0.1 |action|^2 - contact forces as in ant-dir. End:
    after `horizon` steps of 0.05 s only.

    Reference returns: with 200 steps, standing still gets -600 on average, and no fixed target is
    better than the start. No oracle is known. Source: Rothfuss et al. 2019, ProMP
    (arXiv:1810.06784), with the square of goals of Finn et al. 2017, MAML (arXiv:1703.03400),
    instead of a disc; on Gymnasium's Ant-v5, without contact forces in the observation.
    """

    goal_x: Range = Range(-3.0, 3.0, "m", extrapolation=(-4.0, 4.0))
    goal_y: Range = Range(-3.0, 3.0, "m", extrapolation=(-4.0, 4.0))

    limits: ClassVar[dict[str, tuple[float, float]]] = {
        "goal_x": (-1e3, 1e3),
        "goal_y": (-1e3, 1e3),
    }
    name: ClassVar[str] = "ant-goal"
    source: ClassVar[str] = "ProMP (arXiv:1810.06784), Gymnasium Ant-v5"
    task_type: ClassVar[type] = Goal
    body: ClassVar[Body] = ANT._replace(observes=29, hides=0)
    settings: ClassVar[dict[str, Any]] = {
        "include_cfrc_ext_in_observation": False,
        "exclude_current_positions_from_observation": False,
        "terminate_when_unhealthy": False,
        "ctrl_cost_weight": 0.1,
    }

    def healthy(self, physics: Physics) -> Tensor:
        return Locomotion.healthy(self, physics)

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Goal) -> Tensor:
        pos = after.centers[..., 1, :2]
        distance = (pos[..., 0] - task.goal_x).abs() + (pos[..., 1] - task.goal_y).abs()
        return -distance - 0.1 * squares(act) - self.contact_cost(after)
