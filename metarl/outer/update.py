"""The result of an outer update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from metarl.agents.rollouts.rollout import Rollout

PhaseCallback = Callable[[str], None]  # called with the name of each phase as it ends


class Update(NamedTuple):
    """Result of one outer update."""

    weights: dict[str, Tensor]  # updated weights, by the names of `named_weights`
    opt: dict[str, Tensor]  # optimizer state for the next iteration
    collected: list[tuple[Any, list[Rollout]]]  # tasks of each chunk, with their rollouts in order
    metrics: dict[str, Tensor]  # () each: train/meta_loss, grad_norm, kl, entropy
