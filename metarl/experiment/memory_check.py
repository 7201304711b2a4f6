"""Lower bound of the memory of a meta-iteration, checked before training."""

from __future__ import annotations

import math
from itertools import pairwise

from metarl.agents.rollouts.rollout import bytes_of_step
from metarl.config.settings import TrainConfig
from metarl.envs import Family, UsageError
from metarl.envs.core.free_memory import free_memory, in_bytes


def check_room(cfg: TrainConfig, family: Family, processes: int = 1) -> None:
    """Raise UsageError if the run can't fit into free memory.

    Counts what is allocated at the same time: the rollouts of all tasks, and the adapted weights of
    the tasks in one chunk.

    Args:
        processes: number of processes on this machine that share the tasks.
    """
    free = free_memory()
    for flags, size in {
        "fewer --tasks or --episodes, or a shorter horizon": _rollouts(cfg, family),
        "smaller --hidden layers, or a smaller --task-chunk": processes * _weights(cfg, family),
    }.items():
        if size > free:
            raise UsageError(
                f"a meta-iteration needs at least {in_bytes(size)} of memory, and {in_bytes(free)} "
                f"are free: give {flags}."
            )


def _rollouts(cfg: TrainConfig, family: Family) -> int:
    """Bytes of all rollouts that the outer update needs."""
    rollouts = cfg.trial if cfg.memory != "none" else cfg.inner_steps + 1
    rollouts = 1 if cfg.outer == "es" else rollouts  # es keeps only returns
    tasks = min(cfg.tasks, cfg.task_chunk) if cfg.outer == "es" else cfg.tasks
    # A simulator that stops when all episodes have ended may need far fewer steps.
    steps = 1 if hasattr(family, "simulate") else family.horizon
    return tasks * cfg.episodes * rollouts * steps * bytes_of_step(family)


def _weights(cfg: TrainConfig, family: Family) -> int:
    """Bytes of an agent, its step sizes and Adam's moments, and the adapted weights of tasks."""
    obs = math.prod(family.observation_space.shape or ())
    inputs = [obs] if cfg.network == "mlp" else []  # else a convolution may come first
    layers = 4 * sum(a * b for a, b in pairwise((*inputs, *cfg.hidden)))
    layers *= ":" not in cfg.network  # whose size isn't known here
    adapted = cfg.inner_steps if cfg.fast in ("all", "body") and cfg.memory == "none" else 0
    return layers * (4 + adapted * min(cfg.tasks, cfg.task_chunk))
