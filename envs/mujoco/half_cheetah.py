"""Half a cheetah that must find out which way, or how fast, it is to run."""

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
    `horizon` steps of 0.05 s, never before.

    Anchors: standing still gets 0, and so does, on average, running one way for ever. Training sees
    both tasks, so there are no unseen ones, and the gain shows adaptation, not generalisation. No
    oracle is known. Source: Rothfuss et al. 2019, ProMP (arXiv:1810.06784), which clips actions to
    the box like this; on Gymnasium's HalfCheetah-v5.
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
    """Run at a speed that is not told, between standing and 3 m/s.

    Action, observation, start and end: as half-cheetah-dir. Reward: less the difference from the
    speed asked for, m/s, less 0.05 |action|^2.

    Anchors: standing still gets about -150 on average; the best single speed, 1.5 m/s, at most -75.
    No oracle is known. Source: Rothfuss et al. 2019, ProMP (arXiv:1810.06784), on Gymnasium's
    HalfCheetah-v5. Rakelly et al. 2019, PEARL (arXiv:1903.08254) have the same for 200 steps, so
    returns twice as far below 0; Finn et al. 2017 (arXiv:1703.03400) speeds in [0, 2], 200 steps
    of 0.01 s.
    """

    velocity: Range = Range(0.0, 3.0, "m/s", extrapolation=(0.0, 4.0))
    horizon: int = 100

    limits: ClassVar[dict[str, tuple[float, float]]] = {"velocity": (-100, 100)}
    name: ClassVar[str] = "half-cheetah-vel"
    source: ClassVar[str] = "ProMP (arXiv:1810.06784), Gymnasium HalfCheetah-v5"
    task_type: ClassVar[type] = Velocity

    def reward(self, before: Physics, after: Physics, act: Tensor, task: Velocity) -> Tensor:
        return -(self.speed(before, after) - task.velocity).abs() - 0.05 * squares(act)
