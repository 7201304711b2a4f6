"""Tensor families with autoreset: each episode restarts individually when it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metarl.envs.core.family import Family


class AutoresetSimulator:
    """Simulates one episode at a time of each of N tasks of a tensor family."""

    def __init__(self, family: Family, task: Any, gen: torch.Generator) -> None:
        self._family, self._task, self._gen = family, task, gen
        self._never = torch.zeros_like(task[0], dtype=torch.bool)
        self.state: Any = None

    def reset(self) -> Tensor:
        """First observations, (N, 1, *obs)."""
        self.state = self._start(self._task)
        return self._family.observe(self.state)

    def step(self, act: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Next observations, rewards, terminated, truncated; as `Simulator.step`."""
        noise = self._noise(self._task, self._family.step_noise)
        self.state, rew, terminated = self._family.step(self.state, act, self._task, noise)
        return self._family.observe(self.state), rew, terminated, self._never

    def restart(self, rows: Tensor) -> Tensor:
        """Restart the episodes of these k tasks and return their observations, (k, 1, *obs)."""
        fresh = self._start(type(self._task)(*(x[rows] for x in self._task)))
        self.state = zip_state(
            lambda old, new: old.index_put((rows,), new.to(old.dtype)), self.state, fresh
        )
        return self._family.observe(zip_state(lambda x: x[rows], self.state))

    def frame(self) -> Any:
        """Image (H, W, 3) uint8 of the first task's episode."""
        return self._family.frame(self.state, self._task)  # type: ignore[attr-defined]

    def _start(self, task: Any) -> Any:
        return self._family.reset(task, self._noise(task, self._family.reset_noise))

    def _noise(self, task: Any, count: int) -> Tensor:
        device = task[0].device
        return torch.rand(len(task[0]), 1, count, generator=self._gen, device=device)


def zip_state(change: Callable[..., Tensor], state: Any, *others: Any) -> Any:
    """Apply `change` to corresponding tensors of states (a tensor, or a NamedTuple of tensors)."""
    if isinstance(state, Tensor):
        return change(state, *others)
    return type(state)(*(change(*parts) for parts in zip(state, *others, strict=True)))
