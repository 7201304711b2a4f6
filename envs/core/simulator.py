"""The simulator protocol: N tasks x B episodes in progress, whatever computes them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from metarl.envs.core.errors import UsageError
from metarl.envs.core.family import Family, sample_tasks


class Simulator(Protocol):
    """Advances all episodes of a rollout together; episodes don't restart by themselves.

    Optional attributes: `over`, true once all episodes have ended, if this is known on the host;
    `diverged`, (N, B) bool, episodes that ended because a value wasn't finite; `success`, (N, B) 0
    or 1. Optional method: `frame()`, an (H, W, 3) uint8 image of the first episode.
    """

    def reset(self) -> Tensor:
        """First observations, (N, B, *obs)."""
        ...

    def step(self, act: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Next obs (N, B, *obs), rew, terminated, truncated (N, B), as defined by Gymnasium."""
        ...


class TensorSimulator:
    """Simulates a tensor family; the noise of the whole rollout is drawn in one call."""

    def __init__(
        self, family: Family, task: Any, episodes: int, gen: torch.Generator | None = None
    ) -> None:
        n, device = task[0].shape[0], task[0].device
        start, each = family.reset_noise, family.step_noise
        noise = torch.rand(
            n, episodes, start + family.horizon * each, generator=gen, device=device
        ).to(task[0].dtype)
        self._family, self._task = family, task
        self._reset_noise = noise[..., :start]
        steps = noise[..., start:].unflatten(-1, (family.horizon, each)).movedim(2, 0)
        self._step_noise = steps.contiguous()  # (T, N, B, each)
        self._no_noise = noise[..., :0]
        # A device tensor, so that the same compiled graph serves all time steps.
        self._t = torch.zeros(1, dtype=torch.long, device=device)
        # The rollout stops at the horizon, so a tensor family never truncates itself.
        self._never = torch.zeros(n, episodes, dtype=torch.bool, device=device)
        self.state: Any = None

    def reset(self) -> Tensor:
        self.state = self._family.reset(self._task, self._reset_noise)
        return self._family.observe(self.state)

    def step(self, act: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        noise = self._no_noise
        if self._family.step_noise:
            noise = self._step_noise.index_select(0, self._t).squeeze(0)
            self._t = self._t + 1
        self.state, rew, terminated = self._family.step(self.state, act, self._task, noise)
        return self._family.observe(self.state), rew, terminated, self._never

    def frame(self) -> Any:
        """Image (H, W, 3) uint8 of the first episode."""
        return self._family.frame(self.state, self._task)  # type: ignore[attr-defined]


def simulate(
    family: Family,
    task: Any,
    episodes: int,
    gen: torch.Generator | None,
    render: bool = False,
) -> Any:
    """A simulator for `episodes` episodes of each task.

    Families that aren't computed in tensors provide their simulator with a method `simulate`.

    Args:
        render: whether `frame()` will be called.
    """
    if hasattr(family, "simulate"):
        more = {"render": True} if render else {}
        return family.simulate(task, episodes, gen, **more)
    return TensorSimulator(family, task, episodes, gen)


def can_be_filmed(family: Family) -> bool:
    """Whether simulators of the family have a `frame` method."""
    if hasattr(family, "simulate"):
        return bool(getattr(family, "can_be_filmed", lambda: False)())
    return hasattr(family, "frame")


def probe(family: Family) -> None:
    """Raise UsageError unless a reset and a step of 2 tasks x 3 episodes give valid shapes."""
    if hasattr(family, "simulate"):
        return
    task = sample_tasks(family, 2, torch.Generator().manual_seed(0))
    try:
        simulator = TensorSimulator(family, task, 3, torch.Generator().manual_seed(0))
        obs = simulator.reset()
        space = family.action_space
        act_dtype = torch.float32 if isinstance(space, Box) else torch.int64
        act = torch.zeros(2, 3, *(space.shape or ()), dtype=act_dtype)
        _, rew, terminated, _ = simulator.step(act)
    except (Exception, SystemExit) as error:  # whatever a user's family may raise
        raise UsageError(
            f"{family.name}: the first reset and step of 2 tasks x 3 episodes raised "
            f"{type(error).__name__}: {error}: see the example of a family in README."
        ) from error
    obs_space = family.observation_space
    obs_dtype = torch.uint8 if obs_space.dtype == np.uint8 else torch.float32
    for what, x, shape, dtype in (
        ("observe(state)", obs, (2, 3, *(obs_space.shape or ())), obs_dtype),
        ("the reward of step", rew, (2, 3), torch.float32),
        ("terminated of step", terminated, (2, 3), torch.bool),
    ):
        if tuple(x.shape) != shape or x.dtype != dtype:
            raise UsageError(
                f"{family.name}: {what} is {tuple(x.shape)} {x.dtype} for 2 tasks x 3 episodes; "
                f"make it {shape} {dtype}."
            )
