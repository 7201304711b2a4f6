"""Benchmarks of one meta-iteration, by phase."""

from __future__ import annotations

import resource
import statistics
import time
from collections import defaultdict
from typing import Any

import torch

from metarl.bench.lower_bound import lower_bound
from metarl.config.presets import preset
from metarl.config.settings import TrainConfig
from metarl.envs import Family, UsageError, make_family
from metarl.outer.train_state import TrainState
from metarl.system.machine import device_name, versions
from metarl.training.meta_train import meta_train, new_agent

WARM_UP = 2  # untimed meta-iterations

# Family, algorithm and settings: one inner step, 20 episodes per task before and after it.
WORKLOADS: dict[str, tuple[str, str, dict[str, Any]]] = {
    # 100 steps; one plain policy-gradient outer step.
    "nav-20": ("point-navigation", "maml", {"tasks": 20}),
    "nav-200": ("point-navigation", "maml", {"tasks": 200}),
    # 400 parallel episodes, of 200, 50 and 100 steps; the same outer step.
    "cartpole-400": ("cartpole", "maml", {"tasks": 20}),
    "forager-400": ("forager", "maml", {"tasks": 20}),
    "cheetah-400": ("half-cheetah-dir", "maml", {"tasks": 20}),
    # 100 steps; 10 steps of conjugate gradient and a line search.
    "nav-20-trpo": ("point-navigation", "maml-trpo", {"tasks": 20, "curvature_share": 1.0}),
    "nav-20-trpo-quarter": (
        "point-navigation",
        "maml-trpo",
        {"tasks": 20, "curvature_share": 0.25},
    ),
    # 100 steps; complete ProMP with 5 epochs.
    "nav-20-promp": ("point-navigation", "promp", {"tasks": 20, "epochs": 5}),
    "cheetah-40": ("half-cheetah-dir", "promp", {"tasks": 40, "epochs": 5}),
}


def settings(workload: str, repeats: int = 1, tasks: int = 0, task_chunk: int = 50) -> TrainConfig:
    """Settings of a workload.

    Args:
        tasks: number of tasks; 0 is the workload's.
    Raises:
        UsageError: no such workload.
    """
    if workload not in WORKLOADS:
        raise UsageError(f"unknown workload '{workload}': give sim, {', '.join(WORKLOADS)}.")
    family, algo, more = WORKLOADS[workload]
    size = {"tasks": tasks or more["tasks"], "task_chunk": task_chunk}
    return preset(
        family,
        algo,
        iterations=WARM_UP + repeats,
        inner_steps=1,
        multi_step=False,
        hidden=(64, 64),
        episodes=20,
        **{**more, **size},
    )


def bench(
    workload: str, cfg: TrainConfig, device: torch.device, compiled: bool = False
) -> dict[str, Any]:
    """Median seconds of a meta-iteration, of its phases, and their lower bounds.

    Args:
        cfg: from `settings`.
    """
    family = make_family(cfg.family)
    agent: Any = new_agent(cfg, family, device)
    times = _times(cfg, family, agent, device, compiled)
    phases = {k: v[WARM_UP:] for k, v in times.items()}
    seconds = statistics.median(sum(one) for one in zip(*phases.values(), strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    bounds = lower_bound(cfg, family, agent, cfg.iterations - WARM_UP, device)
    env_steps = cfg.tasks * cfg.episodes * family.horizon * (cfg.inner_steps + 1)
    return {
        "workload": workload,
        "tasks": cfg.tasks,
        "compiled": compiled,
        "seconds_per_iteration": seconds,
        "phases": {k: statistics.median(v) for k, v in phases.items()},
        "lower_bound": bounds,
        "times_unavoidable": seconds / sum(bounds.values()),
        "env_steps_per_second": env_steps / seconds,
        "first_iteration": sum(v[0] for v in times.values()),
        "peak_rss_mb": peak,
        "threads": torch.get_num_threads(),
        "device": device_name(device),
        "versions": versions(),
    }


def _times(
    cfg: TrainConfig, family: Family, agent: Any, device: torch.device, compiled: bool
) -> dict[str, list[float]]:
    """Seconds of each phase in each meta-iteration."""
    times: dict[str, list[float]] = defaultdict(lambda: [0.0])
    last = time.perf_counter()

    def on_phase_end(phase: str) -> None:
        nonlocal last
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        times[phase][-1] += now - last
        last = now

    for _ in meta_train(cfg, family, TrainState(agent), on_phase_end, compiled):
        on_phase_end("measure")
        for phase in times.values():
            phase.append(0.0)
    return {k: v[:-1] for k, v in times.items()}
