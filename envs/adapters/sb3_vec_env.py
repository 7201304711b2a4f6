"""Tasks of a family as one Stable-Baselines3 vector environment."""

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
    """One or more environments for each of N tasks, with autoreset.

    `infos` of ended episodes have `terminal_observation`; `TimeLimit.truncated`, whether the
    horizon ended the episode; `episode` with return `r` and length `l`, like SB3's Monitor; and
    `is_success` if the family provides it.

    Args:
        task: N tasks.
        copies: environments per task; those of one task are consecutive.
        unit_actions: scale Box actions to [-1, 1]^A, as metarl's policies and most of SB3's
            settings expect.
    """

    def __init__(
        self, family: Family, task: Any, copies: int = 1, unit_actions: bool = False
    ) -> None:
        # Workers run the episodes of one simulator at a time, so other uses of the family would
        # end these.
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
        return self._to_numpy(self._simulator.reset())

    def step_async(self, actions: Array) -> None:
        act = torch.as_tensor(actions, dtype=self._number).unsqueeze(1)
        self._act = act if self._half is None else act * self._half

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        first, *rest = self._simulator.step(self._act)
        obs, (rew, terminated, truncated) = self._to_numpy(first), (x[:, 0].numpy() for x in rest)
        self._steps += 1
        self._returns += rew
        truncated = truncated | (self._steps >= self.family.horizon)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if done.any():
            rows = np.flatnonzero(done)
            for i in rows.tolist():
                only_truncated = bool(truncated[i] and not terminated[i])
                infos[i] = self._final_info(i, obs[i].copy(), only_truncated)
            obs = obs.copy()
            self._steps[rows], self._returns[rows] = 0, 0.0
            obs[rows] = self._to_numpy(self._simulator.restart(torch.from_numpy(rows)))
        return obs, rew, done, infos

    def _begin(self) -> Any:
        if hasattr(self.family, "simulate"):
            return self.family.simulate(self.task, 1, self._gen)
        return AutoresetSimulator(self.family, self.task, self._gen)

    def _final_info(self, i: int, obs: Array, truncated: bool) -> dict[str, Any]:
        """Info of the episode that has ended in environment i."""
        info: dict[str, Any] = {
            "terminal_observation": obs,
            "TimeLimit.truncated": truncated,
            "episode": {"r": float(self._returns[i]), "l": int(self._steps[i])},
        }
        if hasattr(self._simulator, "success"):
            info["is_success"] = bool(self._simulator.success[i, 0])
        return info

    def _to_numpy(self, obs: Tensor) -> Array:
        """Observations (N, 1, *obs) as an array (N, *obs)."""
        array: Array = obs[:, 0].numpy().astype(self.observation_space.dtype, copy=False)
        return array

    def close(self) -> None:
        if hasattr(self.family, "close"):
            self.family.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute that all environments share."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"{attr_name}: batched environments have no individual attributes.")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        raise AttributeError(f"{method_name}: batched environments have no individual methods.")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """True for Monitor, whose `infos` this class provides."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[Any]:
        return []
