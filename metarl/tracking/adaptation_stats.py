"""Statistics of adaptation by layer: step sizes and changes of the weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.learners.recurrent_agent import AnyAgent
from metarl.config.settings import TrainConfig
from metarl.tracking.trackers import Values


def how_it_adapts(
    cfg: TrainConfig, agent: AnyAgent, adapted: Sequence[AnyAgent]
) -> tuple[dict[str, float], dict[str, Values]]:
    """Metrics and distributions, named in `metric_names`; empty if the agent adapts no weights.

    Args:
        adapted: the agent after adaptation, one for each chunk of tasks.
    """
    if not isinstance(agent, Agent):
        return {}, {}
    change = weight_change(agent, [a for a in adapted if isinstance(a, Agent)])
    metrics = {
        "inner/step_size": mean_step_size(agent),
        "inner/weight_change": float(np.sqrt(sum(np.square(x).sum() for x in change.values()))),
    }
    distributions = {f"weight_change/{name}": x for name, x in change.items()}
    if cfg.step_size != "fixed":
        distributions |= {f"step_size/{name}": x for name, x in step_sizes(agent).items()}
    return metrics, distributions


def layer(name: str) -> str:
    """`layers.0` for `layers.0.weight`; a tensor outside the layers keeps its name."""
    return name.rpartition(".")[0] or name


def step_sizes(agent: Agent) -> dict[str, Values]:
    """Step sizes by layer: one value for each weight, tensor or step that has its own."""
    return _by_layer(agent.inner_lr)


def mean_step_size(agent: Agent) -> float:
    """Mean absolute step size over fast weights and steps."""
    weights = {k: agent.policy.get_parameter(k).numel() for k in agent.inner_lr}
    total = sum(n * float(agent.inner_lr[k].abs().mean()) for k, n in weights.items())
    return total / sum(weights.values())


@torch.no_grad()
def weight_change(agent: Agent, adapted: Sequence[Agent]) -> dict[str, Values]:
    """Root mean square over tasks of the change of each fast weight by adaptation, by layer.

    Args:
        adapted: `agent` after adaptation to some tasks, weights (n, ...); or after no step.
    """

    def change(name: str) -> Tensor:
        slow = agent.params[name]
        rows = [(a.params[name] - slow).reshape(-1, *slow.shape) for a in adapted]
        return torch.cat(rows).square().mean(0).sqrt()

    return _by_layer({name: change(name) for name in agent.inner_lr})


def _by_layer(tensors: Mapping[str, Tensor]) -> dict[str, Values]:
    parts: dict[str, list[Any]] = defaultdict(list)
    for name, tensor in tensors.items():
        parts[layer(name)].append(tensor.detach().flatten().cpu().numpy())
    return {name: np.concatenate(p) for name, p in parts.items()}
