"""Counts and times of the operations in a meta-iteration."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from metarl.agents.rollouts.rollout import feedforward_actor, rollout_chunk
from metarl.config.settings import TrainConfig
from metarl.envs import make_family, sample_tasks, simulate
from metarl.outer.inner_loop import collect_and_adapt
from metarl.outer.meta_objective import meta_gradient
from metarl.outer.train_state import TrainState, with_weights
from metarl.outer.update import trained_weights
from metarl.system.files import write_atomically
from metarl.training.meta_train import meta_train, new_agent

DEAREST = 10


class Count(TorchDispatchMode):
    """Counts operations by name, except views, which launch no kernels on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.names[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def operations(cfg: TrainConfig) -> dict[str, dict[str, int]]:
    """Operations dispatched in eager mode, by name.

    For an environment step with the policy, an inner step, and a meta-gradient.
    """
    family = make_family(cfg.family)
    agent: Any = new_agent(cfg, family)
    task = sample_tasks(family, cfg.tasks, torch.Generator().manual_seed(0))
    weights = trained_weights(cfg, agent)
    data = collect_and_adapt(cfg, with_weights(agent, weights), family, task, None)
    with Count() as gradient:
        meta_gradient(cfg, agent, weights, data, first=True)
    with Count() as inner:
        agent.inner_step(data.path[0], data.support[0], 0)
    return {
        "environment step": dict(_step(cfg.episodes, family, agent, task)),
        "inner step": dict(inner.names),
        "meta-gradient": dict(gradient.names),
    }


@torch.no_grad()
def _step(episodes: int, family: Any, agent: Any, task: Any) -> Counter[str]:
    """Operations of one environment step: those of a three-step rollout minus a two-step one."""
    counts: list[Counter[str]] = []
    for steps in (2, 3):
        simulator = simulate(family, task, episodes, torch.Generator().manual_seed(0))
        obs = simulator.reset()

        def actor(obs: Any, last: Any) -> Any:
            return feedforward_actor(agent.policy, agent.params, obs, last)

        dist = actor(obs, None)
        mask = torch.ones(obs.shape[:2], dtype=torch.bool)
        noise = dist.noise(steps, gen=torch.Generator().manual_seed(0))
        with Count() as count:
            rollout_chunk(actor, simulator, obs, dist, mask, noise)
        counts.append(count.names)
    return counts[1] - counts[0]


def trace(
    cfg: TrainConfig, device: torch.device, path: Path, compiled: bool = False
) -> list[tuple[str, float, int]]:
    """Write the trace of a meta-iteration for Perfetto; return the most expensive operations.

    Returns: name, share of total time, calls.
    """
    family = make_family(cfg.family)
    state = TrainState(new_agent(cfg, family, device))
    iterations = meta_train(cfg, family, state, compiled=compiled)
    next(iterations)
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with profile(activities=activities) as profiler:
        next(iterations)
    with tempfile.TemporaryDirectory() as folder:  # torch would follow a link at `path`
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        write_atomically(path, file.read_bytes())
    rows = profiler.key_averages()
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    total = sum(getattr(row, key) for row in rows)
    top = sorted(rows, key=lambda row: getattr(row, key), reverse=True)[:DEAREST]
    return [(row.key, getattr(row, key) / total, row.count) for row in top]
