"""Speed of simulation for each family, with a random policy and no learning."""

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
STEPS = 100  # maximum in one measurement
PROCESSES = (2, 8)  # of AsyncVectorEnv; the faster is reported


def bench_simulation(families: list[Family], repeats: int, threads: int) -> dict[str, Any]:
    """Median environment steps per second of each family.

    All steps that the simulator computes count. A tensor family keeps computing episodes that have
    ended; other simulators don't. Families that are also Gymnasium environments are measured in
    AsyncVectorEnv too.
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
    """Steps per second of one rollout, without its reset."""
    gen = torch.Generator().manual_seed(seed)
    task = sample_tasks(family, TASKS, gen)
    simulator = simulate(family, task, EPISODES, gen)
    simulator.reset()
    steps = min(family.horizon, STEPS)
    acts = random_actions(family.action_space, (steps, TASKS, EPISODES), gen)
    stops = hasattr(family, "simulate")  # ended episodes are not stepped
    mask = torch.ones(TASKS, EPISODES, dtype=torch.bool)
    advanced = 0
    start = time.perf_counter()
    for act in acts:
        _, _, terminated, truncated = simulator.step(act)
        advanced += int(mask.sum()) if stops else mask.numel()
        if stops:
            mask &= ~(terminated | truncated)
    return advanced / (time.perf_counter() - start)


def _rate_async(family: Any, processes: int) -> float:
    """Steps per second of Gymnasium's AsyncVectorEnv, with one environment per process."""
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
