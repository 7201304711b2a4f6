"""Memory that a meta-iteration takes at least, told before any of it is taken."""

from __future__ import annotations

import math
from itertools import pairwise

from metarl.agents.rollouts.rollout import bytes_of_step
from metarl.config.settings import TrainConfig
from metarl.envs import Family, UsageError
from metarl.envs.core.free_memory import free_memory, in_bytes


def check_room(cfg: TrainConfig, family: Family, processes: int = 1) -> None:
    """Raise UsageError, which names the size and the flags, where the run can't fit into memory.

    What is counted is there at once: of each task all that it played, and of the tasks in one
    tensor program the weights that each has.

    Args:
        processes: that share the tasks, on this machine.
    """
    free = free_memory()
    for flags, size in {
        "fewer --tasks or --episodes, or a shorter horizon": _played(cfg, family),
        "smaller --hidden layers, or a smaller --task-chunk": processes * _weights(cfg, family),
    }.items():
        if size > free:
            raise UsageError(
                f"a meta-iteration takes {in_bytes(size)} of memory or more, and {in_bytes(free)} "
                f"are free: give {flags}."
            )


def _played(cfg: TrainConfig, family: Family) -> int:
    """Bytes of all rollouts that the outer update needs."""
    rollouts = cfg.trial if cfg.memory != "none" else cfg.inner_steps + 1
    rollouts = 1 if cfg.outer == "es" else rollouts  # which keeps returns alone
    tasks = min(cfg.tasks, cfg.task_chunk) if cfg.outer == "es" else cfg.tasks
    # A simulator that knows when all episodes are over may need far fewer steps.
    steps = 1 if hasattr(family, "simulate") else family.horizon
    return tasks * cfg.episodes * rollouts * steps * bytes_of_step(family)


def _weights(cfg: TrainConfig, family: Family) -> int:
    """Bytes of an agent with its step sizes and moments of Adam, and of each task's own weights."""
    obs = math.prod(family.observation_space.shape or ())
    inputs = [obs] if cfg.network == "mlp" else []  # else a convolution may come first
    layers = 4 * sum(a * b for a, b in pairwise((*inputs, *cfg.hidden)))
    layers *= ":" not in cfg.network  # whose size isn't known here
    adapted = cfg.inner_steps if cfg.fast in ("all", "body") and cfg.memory == "none" else 0
    return layers * (4 + adapted * min(cfg.tasks, cfg.task_chunk))
