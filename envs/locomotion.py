"""MuJoCo bodies that must find out which way, how fast, or with what body they are to move."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from envs.family import make_task, task_values
from envs.mujoco_batch import (
    Body,
    MujocoSimulator,
    Physics,
    can_draw,
    load,
    need_mujoco,
    refresh,
    variants,
)
from envs.parameter import Choice, Range

CHEETAH = Body("HalfCheetah-v5", "half_cheetah.xml", 5, 0.05, 17, 6, 1.0, 0.1, True, 1, 2.8)
ANT = Body("Ant-v5", "ant.xml", 5, 0.05, 27, 8, 1.0, 0.1, True, 2, 3.3, forces=True)
HUMANOID = Body(
    "Humanoid-v5", "humanoid.xml", 5, 0.015, 45, 17, 0.4, 0.01, False, 2, 3.1, forces=True
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


class Goal(NamedTuple):
    """N tasks. Every field: (N, 1)."""

    goal_x: Tensor  # m
    goal_y: Tensor  # m


class Scale(NamedTuple):
    """N tasks. Every field: (N, 1)."""

    scale: Tensor  # of the model's own


class Gravity(NamedTuple):
    """N tasks. Every field: (N, 1)."""

    gravity: Tensor  # m/s^2, downwards


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
    settings: ClassVar[dict[str, Any]] = {}  # of Gymnasium's environment, for the same world

    def __post_init__(self) -> None:
        need_mujoco(self.name)

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


class HalfCheetah(Locomotion):
    """Half a cheetah in a plane: six torques, and no way to fall over for good."""

    body: ClassVar[Body] = CHEETAH
    settings: ClassVar[dict[str, Any]] = {"ctrl_cost_weight": 0.05}

    def speed(self, before: Physics, after: Physics) -> Tensor:
        """Forwards, m/s, (N, B)."""
        return (after.qpos[..., 0] - before.qpos[..., 0]) / self.body.dt


@dataclass(frozen=True)
class HalfCheetahDir(HalfCheetah):
    """Run forwards or backwards: half a cheetah finds out which by what it is paid.

    Action: torques of six joints, in [-1, 1] and clipped to it. Observation: height m, pitch and
    six joint angles rad, and the speeds of all and of x, m/s and rad/s. Reward: speed m/s in the
    direction asked for, less 0.05 |action|^2. Start: Gymnasium's, noise of 0.1. End: after
    `horizon` steps of 0.05 s.

    Anchors: standing still gets 0, and so does, on average, running one way for ever. Training sees
    both tasks, so there are no unseen ones, and the gain shows adaptation, not generalisation. No
    oracle is known. Source: Rothfuss et al. 2019, ProMP (arXiv:1810.06784), which clips actions to
    the box like this; on Gymnasium's HalfCheetah-v5.
    """

    direction: Choice = Choice((1.0, -1.0))
    horizon: int = 100

    name: ClassVar[str] = "half-cheetah-dir"
    source: ClassVar[str] = "ProMP (arXiv:1810.06784), Gymnasium HalfCheetah-v5"
    task_type: ClassVar[type] = Direction

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Direction) -> Tensor:
        return task.direction * self.speed(before, after) - 0.05 * squares(act)


@dataclass(frozen=True)
class HalfCheetahVel(HalfCheetah):
    """Run at a speed that is not told, between standing and 3 m/s.

    Action, observation, start and end: as half-cheetah-dir, 200 steps. Reward: less the difference
    from the speed asked for, m/s, less 0.05 |action|^2.

    Anchors: with 200 steps, standing still gets -300 on average, and the best single speed, 1.5
    m/s, at most -150. No oracle is known. Source: Rakelly et al. 2019, PEARL (arXiv:1903.08254),
    whose 130 fixed tasks are a stream of draws here; on Gymnasium's HalfCheetah-v5. Finn et al.
    2017 (arXiv:1703.03400) have speeds in [0, 2] and steps of 0.01 s.
    """

    velocity: Range = Range(0.0, 3.0, "m/s", beyond=(0.0, 4.0))

    name: ClassVar[str] = "half-cheetah-vel"
    source: ClassVar[str] = "PEARL (arXiv:1903.08254), Gymnasium HalfCheetah-v5"
    task_type: ClassVar[type] = Velocity

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Velocity) -> Tensor:
        return -(self.speed(before, after) - task.velocity).abs() - 0.05 * squares(act)


class HalfCheetahBody(HalfCheetah):
    """Run forwards with a body, or in a world, that varies."""

    settings: ClassVar[dict[str, Any]] = {"ctrl_cost_weight": 0.1}

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Any) -> Tensor:
        return self.speed(before, after) - 0.1 * squares(act)


@dataclass(frozen=True)
class HalfCheetahMass(HalfCheetahBody):
    """Run forwards with a body that is up to twice, or half, as heavy as Gymnasium's.

    Action, observation, start and end: as half-cheetah-dir, 200 steps. Reward: Gymnasium's, forward
    speed m/s less 0.1 |action|^2.

    Anchors: standing still gets 0. No oracle is known. All tasks want the same, and the agent feels
    its own speeds: one sturdy gait does fairly well in all, so this measures robustness as much as
    adaptation. Source: Lee et al. 2020 (arXiv:2005.06800) train on masses of 0.75 to 1.25; on
    Gymnasium's HalfCheetah-v5. Inertias are scaled as masses are.
    """

    scale: Range = Range(0.5, 2.0, beyond=(0.25, 4.0), log=True)

    name: ClassVar[str] = "half-cheetah-mass"
    source: ClassVar[str] = "after arXiv:2005.06800, Gymnasium HalfCheetah-v5"
    task_type: ClassVar[type] = Scale

    def shape(self, model: Any, values: dict[str, float]) -> None:
        model.body_mass[:] *= values["scale"]
        model.body_inertia[:] *= values["scale"]


@dataclass(frozen=True)
class HalfCheetahFriction(HalfCheetahBody):
    """Run forwards on a ground that is up to twice, or half, as rough as Gymnasium's.

    Action, observation, reward, start and end: as half-cheetah-mass.

    Anchors: standing still gets 0. No oracle is known; it measures robustness as much as adaptation
    (see half-cheetah-mass). Source: Packer et al. 2018 (arXiv:1810.12282) vary friction among
    others, over other ranges; on Gymnasium's HalfCheetah-v5, whose friction is 0.4 everywhere.
    """

    scale: Range = Range(0.5, 2.0, beyond=(0.25, 4.0), log=True)

    name: ClassVar[str] = "half-cheetah-friction"
    source: ClassVar[str] = "after arXiv:1810.12282, Gymnasium HalfCheetah-v5"
    task_type: ClassVar[type] = Scale

    def shape(self, model: Any, values: dict[str, float]) -> None:
        model.geom_friction[:] *= values["scale"]


@dataclass(frozen=True)
class HalfCheetahDamping(HalfCheetahBody):
    """Run forwards with joints that are up to twice, or half, as stiff to turn as Gymnasium's.

    Action, observation, reward, start and end: as half-cheetah-mass.

    Anchors: standing still gets 0. No oracle is known; it measures robustness as much as adaptation
    (see half-cheetah-mass). Source: Lee et al. 2020 (arXiv:2005.06800) train on dampings of 0.75 to
    1.25; on Gymnasium's HalfCheetah-v5.
    """

    scale: Range = Range(0.5, 2.0, beyond=(0.25, 4.0), log=True)

    name: ClassVar[str] = "half-cheetah-damping"
    source: ClassVar[str] = "after arXiv:2005.06800, Gymnasium HalfCheetah-v5"
    task_type: ClassVar[type] = Scale

    def shape(self, model: Any, values: dict[str, float]) -> None:
        model.dof_damping[:] *= values["scale"]


@dataclass(frozen=True)
class HalfCheetahGravity(HalfCheetahBody):
    """Run forwards under half to one and a half times the Earth's gravity.

    Action, observation, reward, start and end: as half-cheetah-mass.

    Anchors: standing still gets 0. No oracle is known; it measures robustness as much as adaptation
    (see half-cheetah-mass). Source: Henderson et al. 2017 (arXiv:1708.04352), whose five values
    are the range here; on Gymnasium's HalfCheetah-v5.
    """

    gravity: Range = Range(4.905, 14.715, "m/s^2", beyond=(2.0, 20.0))

    name: ClassVar[str] = "half-cheetah-gravity"
    source: ClassVar[str] = "after arXiv:1708.04352, Gymnasium HalfCheetah-v5"
    task_type: ClassVar[type] = Gravity

    def shape(self, model: Any, values: dict[str, float]) -> None:
        model.opt.gravity[2] = -values["gravity"]


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

    velocity: Range = Range(0.0, 3.0, "m/s", beyond=(0.0, 4.0))

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

    goal_x: Range = Range(-3.0, 3.0, "m", beyond=(-4.0, 4.0))
    goal_y: Range = Range(-3.0, 3.0, "m", beyond=(-4.0, 4.0))

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


@dataclass(frozen=True)
class HumanoidDir(Locomotion):
    """A humanoid walks in any direction of the plane, which the reward alone tells.

    Action: torques of 17 joints, in [-0.4, 0.4] and clipped to it. Observation: height m,
    orientation (a quaternion), 17 joint angles rad, and the speeds of all and of x and y, m/s and
    rad/s. Reward: 1.25 x speed m/s of the centre of mass in the direction asked for + 5 - 0.1
    |action|^2 - 5e-7 |contact forces|^2, at most 10. Start: Gymnasium's, noise of 0.01. End: a
    height outside (1, 2) m, or after `horizon` steps of 0.015 s.

    Anchors: going limp gets about 197, nearly all of it for the 40 steps until the fall; walking
    one way for ever gets no more than that for surviving, on average. No oracle is known. Source:
    Rothfuss et al. 2019, ProMP (arXiv:1810.06784); on Gymnasium's Humanoid-v5, without the
    inertias, forces and torques in the observation.
    """

    angle: Range = Range(-math.pi, math.pi, "rad")

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
        moved = ((after.centres - before.centres) * mass / mass.sum()).sum(-2)[..., :2]
        along = moved[..., 0] * task.angle.cos() + moved[..., 1] * task.angle.sin()
        contact = (5e-7 * squares(after.contact).sum(-1)).clamp(max=10)
        return 1.25 * along / self.body.dt + 5.0 - 0.1 * squares(act) - contact
