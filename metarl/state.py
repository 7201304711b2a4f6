"""What a run carries from one meta-iteration to the next."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from agents.agent import Agent
from agents.policy import Params


@dataclass(frozen=True)
class TrainState:
    """Everything needed to go on; randomness is a function of (seed, iteration) and not kept."""

    agent: Agent
    opt: dict[str, Tensor] = field(default_factory=dict)  # Adam's, by `weight/quantity`
    iteration: int = 0
    env_steps: int = 0
    skipped: int = 0  # updates left out for a non-finite gradient
    skipped_in_a_row: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


def named_weights(agent: Agent) -> dict[str, Tensor]:
    """Everything that meta-training may change, by `params/...` and `inner_lr/...`."""
    return {
        **{f"params/{k}": p for k, p in agent.params.items()},
        **{f"inner_lr/{k}": p for k, p in agent.inner_lr.items()},
    }


def split_weights(weights: dict[str, Tensor]) -> tuple[Params, Params]:
    """The inverse of `named_weights`: params, inner_lr."""
    parts: dict[str, Params] = {"params": {}, "inner_lr": {}}
    for name, weight in weights.items():
        part, _, key = name.partition("/")
        parts[part][key] = weight
    return parts["params"], parts["inner_lr"]
