"""Episodes with random actions, for the checks of families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor

from metarl.envs.core.family import Family
from metarl.envs.core.simulator import simulate


class Trace(NamedTuple):
    """Results of N x B episodes of T steps; 0 after the end of an episode."""

    obs: Tensor  # (T + 1, N, B, *obs)
    rew: Tensor  # (T, N, B)
    mask: Tensor  # (T, N, B) bool, valid steps


def random_acts(space: Space[Any], shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Uniformly random actions of a space, float32 or int64."""
    gen = torch.Generator().manual_seed(seed)
    if isinstance(space, Discrete):
        return torch.randint(int(space.n), shape, generator=gen)
    uniform = torch.rand(*shape, *(space.shape or ()), generator=gen)
    if isinstance(space, MultiDiscrete):
        return (uniform * torch.from_numpy(space.nvec)).long()
    if not isinstance(space, Box):  # MultiBinary
        return (2 * uniform).long()
    low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
    return low + (high - low) * uniform


def play(
    family: Family,
    task: Any,
    actor: Callable[[Any, Any], Tensor] | None = None,
    episodes: int = 3,
    seed: int = 0,
    steps: int | None = None,
) -> Trace:
    """Run episodes with random actions, or with the actions of `actor(state, task)`.

    Args:
        steps: maximum number of steps; None for complete episodes.
    """
    simulator = simulate(family, task, episodes, torch.Generator().manual_seed(seed))
    length = family.horizon if steps is None else min(steps, family.horizon)
    obs, count = [simulator.reset()], (length, len(task[0]), episodes)
    rew, mask = [], [torch.ones(count[1:], dtype=torch.bool)]
    acts = None if actor else random_acts(family.action_space, count, seed)
    for t in range(length):
        act = acts[t] if acts is not None else actor(simulator.state, task)  # type: ignore[misc]
        nxt, r, terminated, truncated = simulator.step(act)
        obs.append(torch.where(mask[-1].view(*count[1:], *(1,) * (nxt.dim() - 2)), nxt, 0))
        rew.append(torch.where(mask[-1], r, 0))
        mask.append(mask[-1] & ~terminated & ~truncated)
    return Trace(torch.stack(obs), torch.stack(rew), torch.stack(mask[:-1]))
