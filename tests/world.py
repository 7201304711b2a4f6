"""A user's family in which tests can make trouble, `world:World`."""

from typing import ClassVar

from metarl.envs.classic_control.point_navigation import PointNavigation


class World(PointNavigation):
    """Point navigation that counts its rollouts, and whose rewards are about `bonus` higher."""

    name: ClassVar[str] = "world"
    rollouts: ClassVar[int] = 0
    bonus: ClassVar[float] = 0.0

    def trouble(rollout, tasks):
        """Called before each rollout with its number and how many tasks it plays."""

    def reset(self, task, noise):
        if noise.shape[1] == 3:  # the probe of a family's contract, before anything is trained
            return super().reset(task, noise)
        World.rollouts += 1
        World.trouble(World.rollouts, len(task[0]))
        return super().reset(task, noise)

    def step(self, state, act, task, noise):
        state, rew, terminated = super().step(state, act, task, noise)
        return state, rew + World.bonus * (1 + 0.01 * rew), terminated

    @property
    def frame(self):
        raise AttributeError("no film, which takes longer than all the rest")
