"""A run: settings, family and current state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metarl.config.family_record import texts
from metarl.config.settings import RunConfig, TrainConfig
from metarl.config.trust import flag_for
from metarl.envs import Family
from metarl.outer.train_state import TrainState


@dataclass(frozen=True)
class Run:
    """A run as read from its folder."""

    train: TrainConfig
    run: RunConfig
    family: Family
    state: TrainState
    record: Mapping[str, Any] = field(default_factory=dict)  # of the family; see `family_record`
    started_from: Mapping[str, Any] = field(default_factory=dict)  # files, for information only
    digest: str = ""  # of its config.json

    @property
    def reopening(self) -> str:
        """` --trust` if a command that opens this run needs it, else empty."""
        return flag_for(self.train, texts(self.record))
