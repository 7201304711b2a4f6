"""One task of a family as a Gymnasium environment, for rendering and other libraries."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch

from metarl.envs.core.errors import UsageError
from metarl.envs.core.family import Family, make_task


class GymView(gymnasium.Env[Any, Any]):
    """Gymnasium environment of the task with these parameters.

    It doesn't truncate episodes; the registered time limit does.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(self, family: Family, render_mode: str | None = None, **values: float) -> None:
        if render_mode not in (None, "rgb_array"):
            raise UsageError(f"render_mode={render_mode!r}: give 'rgb_array' or None.")
        if render_mode and not hasattr(family, "frame"):
            raise UsageError(f"{family.name} has no frame(state, task): leave out render_mode.")
        self.family, self.render_mode = family, render_mode
        self.task = make_task(family, **values)
        self.observation_space = family.observation_space
        self.action_space = family.action_space
        self.state: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.state = self.family.reset(self.task, self._noise(self.family.reset_noise))
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        noise = self._noise(self.family.step_noise)
        act = torch.as_tensor(np.asarray(action))[None, None]
        self.state, rew, terminated = self.family.step(self.state, act, self.task, noise)
        return self._observation(), rew.item(), bool(terminated.item()), False, {}

    def render(self) -> Any:
        """Image (H, W, 3) uint8 of the current state."""
        return self.family.frame(self.state, self.task)  # type: ignore[attr-defined]

    def _noise(self, count: int) -> torch.Tensor:
        return torch.from_numpy(self.np_random.random((1, 1, count), np.float32))

    def _observation(self) -> Any:
        obs = self.family.observe(self.state)[0, 0].numpy()
        return obs.astype(self.observation_space.dtype)
