"""What a meta-iteration played, and the metrics of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.agent import Agent
from agents.losses import Batch, mean_kl
from agents.policy import Params, act_dist
from agents.rollout import Rollout


class Experience(NamedTuple):
    """What a chunk of tasks plays in one meta-iteration of K inner steps."""

    task: Any
    rollouts: list[Rollout]  # K + 1, each collected with the weights before it
    support: list[Batch]  # K, before each inner step
    query: Batch  # after the last
    path: list[Params]  # K + 1 fast weights, differentiable in the slow ones


def measure(
    agent: Agent, data: list[Experience], losses: list[Tensor], norms: list[Tensor]
) -> dict[str, float]:
    """All metrics in one transfer: the only wait for the device in a meta-iteration."""
    sizes = [len(d.query.obs) for d in data]
    chunks = [_measure_chunk(agent, d) for d in data]
    values = {
        name: torch.stack([n * chunk[name] for n, chunk in zip(sizes, chunks, strict=True)]).sum()
        / sum(sizes)
        for name in chunks[0]
    }
    values["train/adaptation_gain"] = values["train/return_after"] - values["train/return_before"]
    values["train/meta_loss"] = losses[0]
    values["train/grad_norm"] = torch.stack(norms).mean()
    rollouts = [r for d in data for r in d.rollouts]
    diverged = [r.notes["diverged"].sum() for r in rollouts if "diverged" in r.notes]
    values["train/diverged"] = torch.stack(diverged or [torch.zeros_like(losses[0])]).sum()
    values["env_steps"] = torch.stack([r.alive.sum() for r in rollouts]).sum()
    values["finite"] = torch.stack(
        [x.isfinite().all() for r in rollouts for x in (r.obs, r.rew)]
    ).all()
    numbers = torch.stack([v.double() for v in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))


def _measure_chunk(agent: Agent, data: Experience) -> dict[str, Tensor]:
    """Means over the chunk's tasks."""
    played, query = data.support[0] if data.support else data.query, data.query
    with torch.no_grad():
        kl = mean_kl(act_dist(agent.policy, agent.params, played.obs), played).mean()
    first, last = data.rollouts[0], data.rollouts[-1]
    means = {
        "train/return_before": first.episode_return().mean(),
        "train/return_after": last.episode_return().mean(),
        "train/kl": kl,
        "train/entropy": (query.dist.entropy() * query.weight).sum(-1).mean(),
    }
    if "success" in first.notes:
        means["train/success_before"] = first.notes["success"].mean()
        means["train/success_after"] = last.notes["success"].mean()
    return means
