"""State that a run carries from one meta-iteration to the next."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from metarl.agents.learners.recurrent_agent import AnyAgent
from metarl.agents.networks.policy import Params
from metarl.agents.networks.running_stats import Moments, with_moments

A = TypeVar("A", bound=AnyAgent)


class RunningStats(NamedTuple):
    """Running moments for normalization; frozen within a meta-iteration."""

    obs: Moments | None = None
    ret: Moments | None = None


GROUPS = ("params", "inner_lr", "value")  # attributes of agents that training may change


@dataclass(frozen=True)
class TrainState:
    """Everything needed to resume; random streams are a function of (seed, iteration)."""

    agent: AnyAgent
    opt: dict[str, Tensor] = field(default_factory=dict)  # optimizer state by `weight/quantity`
    iteration: int = 0
    env_steps: int = 0
    skipped: int = 0  # updates skipped because the gradient was not finite
    skipped_in_a_row: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    running_stats: RunningStats = field(default_factory=RunningStats)

    def __repr__(self) -> str:
        steps = f"{self.env_steps:,} env steps"
        return f"TrainState(iteration {self.iteration}, {steps}, {self.agent!r})"


def named_weights(agent: AnyAgent) -> dict[str, Tensor]:
    """All tensors that meta-training may change, by `params/...`, `inner_lr/...`, `value/...`."""
    return {f"{g}/{k}": p for g in GROUPS for k, p in getattr(agent, g, {}).items()}


def with_weights(agent: A, weights: dict[str, Tensor]) -> A:
    """The agent with the named weights replaced."""
    parts: dict[str, Params] = defaultdict(dict)
    for name, weight in weights.items():
        group, _, key = name.partition("/")
        parts[group][key] = weight
    changed: dict[str, Any] = {g: {**getattr(agent, g), **p} for g, p in parts.items()}
    return dataclasses.replace(agent, **changed)


def moved(state: TrainState, device: torch.device) -> TrainState:
    """The state on another device."""
    running_stats = RunningStats(
        *(m and Moments(*(x.to(device) for x in m)) for m in state.running_stats)
    )
    opt = {k: x.to(device) for k, x in state.opt.items()}
    return dataclasses.replace(
        state, agent=state.agent.to(device), opt=opt, running_stats=running_stats
    )


def normalizing(agent: A, running_stats: RunningStats) -> A:
    """The agent with these normalization moments; unchanged if there are none."""
    if running_stats == RunningStats():
        return agent
    policy: Any = with_moments(agent.policy, running_stats.obs, running_stats.ret)
    return dataclasses.replace(agent, policy=policy)
