"""How fast families are simulated, with a random policy and no learning."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from metarl.envs import Family, sample_tasks, simulate
from metarl.evaluation.scripted_policies import random_actions
from metarl.system.machine import cores, versions
from metarl.system.user_errors import report_user_errors

TASKS, EPISODES = 20, 20  # 400 episodes in parallel
STEPS = 100  # at most, in one measurement
PROCESSES = (2, 8)  # of AsyncVectorEnv; the faster one counts


def bench_simulation(families: list[Family], repeats: int, threads: int) -> dict[str, Any]:
    """Median environment steps a second of each family.

    All episodes that the simulator advances count, also those of a tensor family that have ended
    and go on unseen; a simulator that leaves ended episodes alone is measured by what it advances.
    Families that Gymnasium can simulate too are measured in its AsyncVectorEnv beside.
    """
    if threads:
        torch.set_num_threads(threads)
    rows = {}
    for family in families:
        with report_user_errors(family):
            rates = [_rate(family, i) for i in range(repeats)]
        row = {"steps_per_second": statistics.median(rates)}
        if hasattr(family, "make_env"):
            row["async_vector_env"] = max(_rate_async(family, n) for n in PROCESSES)
        if hasattr(family, "close"):
            family.close()
        rows[family.name] = row
    return {
        "workload": "sim",
        "episodes": TASKS * EPISODES,
        "families": rows,
        "threads": torch.get_num_threads(),
        "cores": cores(),
        "versions": versions(),
    }


def _rate(family: Family, seed: int) -> float:
    """Steps a second of one rollout, its start not counted."""
    gen = torch.Generator().manual_seed(seed)
    task = sample_tasks(family, TASKS, gen)
    simulator = simulate(family, task, EPISODES, gen)
    simulator.reset()
    steps = min(family.horizon, STEPS)
    acts = random_actions(family.action_space, (steps, TASKS, EPISODES), gen)
    alone = hasattr(family, "simulate")  # ended episodes are left alone
    mask = torch.ones(TASKS, EPISODES, dtype=torch.bool)
    advanced = 0
    start = time.perf_counter()
    for act in acts:
        _, _, terminated, truncated = simulator.step(act)
        advanced += int(mask.sum()) if alone else mask.numel()
        if alone:
            mask &= ~(terminated | truncated)
    return advanced / (time.perf_counter() - start)


def _rate_async(family: Any, processes: int) -> float:
    """Steps a second of Gymnasium's own vector environment, one environment a process."""
    envs = AsyncVectorEnv(
        [family.make_env] * processes, context="spawn", autoreset_mode=AutoresetMode.NEXT_STEP
    )
    try:
        envs.reset(seed=0)
        acts = [envs.action_space.sample() for _ in range(STEPS)]
        start = time.perf_counter()
        for act in acts:
            envs.step(act)
        return float(np.divide(STEPS * processes, time.perf_counter() - start))
    finally:
        envs.close()
