"""Returns of policies that don't learn: uniformly random, and the family's oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gymnasium.spaces import Box, MultiBinary, MultiDiscrete, Space
from torch import Tensor

from metarl.envs import Family, simulate
from metarl.evaluation.statistics import Array


def random_actions(
    space: Space[Any], shape: tuple[int, ...], gen: torch.Generator | None
) -> Tensor:
    """Uniform actions, (*shape, A) or (*shape,), on the generator's device."""
    device = gen.device if gen else torch.device("cpu")
    if isinstance(space, Box):
        u = torch.rand(*shape, *space.shape, generator=gen, device=device)
        return (2 * u - 1) * torch.from_numpy(space.high).to(device)
    if isinstance(space, MultiDiscrete):
        u = torch.rand(*shape, *space.shape, generator=gen, device=device)
        return (u * torch.from_numpy(space.nvec).to(device)).long()
    if isinstance(space, MultiBinary):
        return torch.randint(2, (*shape, *space.shape), generator=gen, device=device)
    n = int(space.n)  # type: ignore[attr-defined]
    return torch.randint(n, shape, generator=gen, device=device)


def random_return(family: Family, task: Any, episodes: int, gen: torch.Generator | None) -> Array:
    """Mean return of each task under uniformly random actions, (M,)."""
    shape = (len(task[0]), episodes)
    return scripted_return(
        family, task, episodes, gen, lambda _: random_actions(family.action_space, shape, gen)
    )


def oracle_return(
    family: Family, task: Any, episodes: int, gen: torch.Generator | None
) -> Array | None:
    """Mean return of each task under the family's `oracle`, (M,); None without one."""
    if not hasattr(family, "oracle") or hasattr(family, "simulate"):
        return None
    return scripted_return(family, task, episodes, gen, lambda s: family.oracle(s.state, task))


@torch.no_grad()
def scripted_return(
    family: Family,
    task: Any,
    episodes: int,
    gen: torch.Generator | None,
    act: Callable[[Any], Tensor],
) -> Array:
    """Mean return of each task under `act`, which maps a simulator to actions; (M,)."""
    simulator = simulate(family, task, episodes, gen)
    simulator.reset()
    total = torch.zeros(len(task[0]), episodes, device=task[0].device)
    mask = torch.ones_like(total, dtype=torch.bool)
    for _ in range(family.horizon):
        _, rew, terminated, truncated = simulator.step(act(simulator))
        total = total + torch.where(mask, rew, 0)
        mask = mask & ~(terminated | truncated)
        if getattr(simulator, "over", False):
            break
    result: Array = total.mean(dim=1).cpu().double().numpy()
    return result
