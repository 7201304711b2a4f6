"""An ant that must find out which way, how fast, or where it is to go."""

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
    """Four legs, eight torques; it falls, or jumps too high, and the episode is over.

    Contact forces are computed, as in Gymnasium, though they were zero in many published runs
    (MuJoCo 2): their cost is small, at most about 0.04 a step.
    """

    body: ClassVar[Body] = ANT
    settings: ClassVar[dict[str, Any]] = {"include_cfrc_ext_in_observation": False}

    def velocity_of_torso(self, before: Physics, after: Physics) -> Tensor:
        """Along x and y, m/s, (N, B, 2); the torso is a sphere about its centre of mass."""
        moved = after.centres[..., 1, :2] - before.centres[..., 1, :2]
        return moved / self.body.dt

    def contact_cost(self, after: Physics) -> Tensor:
        return 5e-4 * squares(after.contact.clamp(-1, 1)).sum(-1)

    def healthy(self, physics: Physics) -> Tensor:
        height = physics.qpos[..., 2]
        return (height >= 0.2) & (height <= 1.0)

    def run(self, before: Physics, after: Physics, act: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Speed along the unit vector (x, y), survival and costs, (N, B)."""
        speed = self.velocity_of_torso(before, after)
        forward = speed[..., 0] * x + speed[..., 1] * y
        return forward + 1.0 - 0.5 * squares(act) - self.contact_cost(after)


@dataclass(frozen=True)
class AntDir(Ant):
    """Walk forwards or backwards on four legs: which of the two, the reward tells.

    Action: torques of eight joints, in [-1, 1] and clipped to it. Observation: height m,
    orientation (a quaternion), eight joint angles rad, and the speeds of all and of x and y, m/s
    and rad/s. Reward: speed m/s in the direction asked for + 1 - 0.5 |action|^2 - 0.0005 |contact
    forces, each clipped to 1|^2. Start: Gymnasium's, noise of 0.1. End: a height outside
    [0.2, 1] m, or after `horizon` steps of 0.05 s.

    Anchors: standing still gets about 200 for surviving, and so does, on average, whoever walks one
    way for ever. Training sees both tasks, so there are no unseen ones. No oracle is known.
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
    """Walk in any direction of the plane, which the reward alone tells.

    Action, observation, reward, start and end: as ant-dir.

    Anchors: standing still gets about 200 for surviving, and so does, on average, whoever walks one
    way for ever. No oracle is known. Source: Rakelly et al. 2019, PEARL (arXiv:1903.08254); on
    Gymnasium's Ant-v5.
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
    """Walk along x at a speed that is not told, between standing and 3 m/s.

    Action, observation, start and end: as ant-dir. Reward: 1.05 - the difference from the speed
    asked for, m/s, - 0.005 |action|^2 - contact forces as in ant-dir.

    Anchors: with 200 steps, standing still gets -90 on average; the best single speed, 1.5 m/s, at
    most 60. No oracle is known. Source: Finn et al. 2017, MAML (arXiv:1703.03400); on Gymnasium's
    Ant-v5, with steps of 0.05 s for rllab's 0.02 s, and neither contact forces nor rotation matrix
    in the observation.
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
    """Walk to a place that is not shown; how far it is, the reward tells.

    Action and start: as ant-dir. Observation: that of ant-dir, and where the ant is, x and y m.
    Reward: -(|x - goal_x| + |y - goal_y|) - 0.1 |action|^2 - contact forces as in ant-dir. End:
    after `horizon` steps of 0.05 s, whatever happens.

    Anchors: with 200 steps, standing still gets -600 on average, and no fixed place to walk to is
    better than where it starts. No oracle is known. Source: Rothfuss et al. 2019, ProMP
    (arXiv:1810.06784), with the square of goals of Finn et al. 2017, MAML (arXiv:1703.03400), for
    its disc; on Gymnasium's Ant-v5, without contact forces in the observation.
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
        place = after.centres[..., 1, :2]
        far = (place[..., 0] - task.goal_x).abs() + (place[..., 1] - task.goal_y).abs()
        return -far - 0.1 * squares(act) - self.contact_cost(after)
