"""What an outer update gives back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from metarl.agents.rollouts.rollout import Rollout

PhaseCallback = Callable[[str], None]  # told the name of each phase as it ends, for benchmarks


class Update(NamedTuple):
    """What an outer rule made of one iteration's tasks."""

    weights: dict[str, Tensor]  # those that moved, by the names of `named_weights`
    opt: dict[str, Tensor]  # what the rule carries to the next iteration
    collected: list[
        tuple[Any, list[Rollout]]
    ]  # of each chunk the tasks, and their rollouts in order
    metrics: dict[str, Tensor]  # () each: train/meta_loss, grad_norm, kl, entropy
