"""What an outer update gives back to the meta-trainer."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from agents.rollout import Rollout


class Update(NamedTuple):
    """The weights after one meta-iteration, and what was played for it."""

    weights: dict[str, Tensor]  # by the names of `named_weights`
    opt: dict[str, Tensor]  # Adam's, by `weight/quantity`
    played: list[tuple[Any, list[Rollout]]]  # of each chunk: the task, its rollouts in order
    metrics: dict[str, Tensor]  # 0-dim; nothing is read to the host
