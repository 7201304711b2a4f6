"""Tasks of a family as a vectorised environment of Stable-Baselines3, stepped in one program."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnv
from torch import Tensor

from metarl.envs.adapters.autoreset import AutoresetSimulator
from metarl.envs.core.family import Family

Array = np.ndarray[Any, Any]


class VecView(VecEnv):
    """One environment for each of N tasks, or several; each restarts by itself as its episode ends.

    `infos` say what SB3 wants to know of an episode that has ended: `terminal_observation`,
    `TimeLimit.truncated` where the horizon ended it, and `episode` with return `r` and length `l`,
    as its Monitor does; `is_success` where the family knows.

    Args:
        task: N tasks.
        copies: environments of each task; those of one task stand side by side.
        unit_actions: boxes of actions are given in units of their half, [-1, 1]^A, as metarl's
            policies act, and most of SB3's settings expect.
    """

    def __init__(
        self, family: Family, task: Any, copies: int = 1, unit_actions: bool = False
    ) -> None:
        # Workers hold the episodes of one simulator; another use of the family shall not end these.
        self.family: Any = copy.copy(family)
        self.task = type(task)(*(x.cpu().repeat_interleave(copies, 0) for x in task))
        space: Any = family.action_space
        self._half = None
        if unit_actions and isinstance(space, Box):
            self._half = torch.as_tensor(space.high, dtype=torch.float32)
            space = Box(-1.0, 1.0, space.shape)
        self._number = torch.float32 if isinstance(space, Box) else torch.int64
        self.render_mode = None
        super().__init__(len(self.task[0]), family.observation_space, space)
        self._gen = torch.Generator()
        self._gen.seed()

    def reset(self) -> Array:
        if self._seeds[0] is not None:  # one stream serves all environments
            self._gen = torch.Generator().manual_seed(self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        self._simulator = self._begin()
        self._steps = np.zeros(self.num_envs, int)
        self._returns = np.zeros(self.num_envs)
        return self._seen(self._simulator.reset())

    def step_async(self, actions: Array) -> None:
        act = torch.as_tensor(actions, dtype=self._number).unsqueeze(1)
        self._act = act if self._half is None else act * self._half

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        seen, *rest = self._simulator.step(self._act)
        obs, (rew, terminated, truncated) = self._seen(seen), (x[:, 0].numpy() for x in rest)
        self._steps += 1
        self._returns += rew
        late = truncated | (self._steps >= self.family.horizon)
        over = terminated | late
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if over.any():
            rows = np.flatnonzero(over)
            for i in rows.tolist():
                infos[i] = self._last_words(i, obs[i].copy(), bool(late[i] and not terminated[i]))
            obs = obs.copy()
            self._steps[rows], self._returns[rows] = 0, 0.0
            obs[rows] = self._seen(self._simulator.restart(torch.from_numpy(rows)))
        return obs, rew, over, infos

    def _begin(self) -> Any:
        if hasattr(self.family, "simulate"):
            return self.family.simulate(self.task, 1, self._gen)
        return AutoresetSimulator(self.family, self.task, self._gen)

    def _last_words(self, i: int, obs: Array, truncated: bool) -> dict[str, Any]:
        """What is said of the episode that has ended in environment i."""
        info: dict[str, Any] = {
            "terminal_observation": obs,
            "TimeLimit.truncated": truncated,
            "episode": {"r": float(self._returns[i]), "l": int(self._steps[i])},
        }
        if hasattr(self._simulator, "success"):
            info["is_success"] = bool(self._simulator.success[i, 0])
        return info

    def _seen(self, obs: Tensor) -> Array:
        """Observations (N, 1, *obs) as an array (N, *obs)."""
        seen: Array = obs[:, 0].numpy().astype(self.observation_space.dtype, copy=False)
        return seen

    def close(self) -> None:
        if hasattr(self.family, "close"):
            self.family.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """What all environments have in common."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"{attr_name}: environments that are rows of one program have none.")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        raise AttributeError(f"{method_name}: rows of one program have no methods of their own.")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Whether it does what a wrapper does: the Monitor's work is done here."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[Any]:
        return []
