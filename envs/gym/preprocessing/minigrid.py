"""MiniGrid and BabyAI with hidden levels and missions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box


class Level(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Fixes the level, and removes the mission from observations.

    Observation: (20, 7, 7) planes with one-hot types, colors and states of the visible cells.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], level: int) -> None:
        super().__init__(env)
        self.level = level
        rows, columns, planes = env.observation_space["image"].shape  # type: ignore[index]
        self.observation_space = Box(0.0, 1.0, (planes, rows, columns), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        obs, info = self.env.reset(seed=self.level, options=options)
        return self._planes(obs), info

    def step(self, action: Any) -> Any:
        obs, rew, terminated, truncated, info = self.env.step(action)
        won = terminated and float(rew) > 0
        return self._planes(obs), rew, terminated, truncated, {**info, "success": won}

    def _planes(self, obs: Any) -> Any:
        return np.moveaxis(obs["image"], -1, 0).astype(np.float32)


def grid_level(
    environment: str, level: int = 0, render_mode: str | None = None, **more: Any
) -> gymnasium.Env[Any, Any]:
    """A MiniGrid environment that builds the level of this seed at each reset."""
    import minigrid.wrappers

    env = gymnasium.make(environment, render_mode=render_mode, **more)
    return Level(minigrid.wrappers.OneHotPartialObsWrapper(env), level)


@lru_cache
def level_seeds(environment: str, count: int) -> tuple[int, ...]:
    """The first seed of each distinct level among seeds 0 to count - 1.

    Many seeds give the same level: MiniGrid-DoorKey-5x5-v0 has only 48 levels.
    """
    bare: Any = grid_level(environment).unwrapped
    first: dict[Any, int] = {}
    for seed in range(count):
        bare.reset(seed=seed)
        pose = (*map(int, bare.agent_pos), int(bare.agent_dir))
        first.setdefault((bare.grid.encode().tobytes(), pose, bare.mission), seed)
    return tuple(first.values())


def grid_spec(name: str) -> EnvSpec:
    """Spec of an environment such as `MiniGrid-GoToDoor-5x5-v0` with its level as a keyword."""
    return EnvSpec(
        name,
        entry_point="metarl.envs.gym.preprocessing.minigrid:grid_level",
        kwargs={"environment": name},
    )
