"""A run: its settings, its family, and the state that it has reached."""

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
    """A run read back from its folder."""

    train: TrainConfig
    run: RunConfig
    family: Family
    state: TrainState
    record: Mapping[str, Any] = field(default_factory=dict)  # of the family; see `family_record`
    started_from: Mapping[str, Any] = field(default_factory=dict)  # files, for people
    digest: str = ""  # of its config.json

    def __repr__(self) -> str:
        made = f"{self.state.iteration} of {self.train.iterations} iterations"
        return f"Run({self.train.algo} on {self.train.family}, seed {self.train.seed}, {made})"

    @property
    def reopening(self) -> str:
        """` --trust` for a command that opens this run again, where it needs that."""
        return flag_for(self.train, texts(self.record))
