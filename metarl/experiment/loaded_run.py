"""A run: settings, family and current state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metarl.agents.learners.recurrent_agent import AnyAgent
from metarl.config.family_record import texts
from metarl.config.settings import RunConfig, TrainConfig
from metarl.config.trust import flag_for
from metarl.envs import Family
from metarl.evaluation.evaluate import Evaluation
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
    folder: Path = Path()
    evaluation: Evaluation | None = None  # of this state on unseen tasks, where one was made
    trusted: bool = False  # trackers and callbacks that the settings name may be imported

    @property
    def agent(self) -> AnyAgent:
        """The agent of the state."""
        return self.state.agent

    def __repr__(self) -> str:
        made = f"{self.state.iteration} of {self.train.iterations} iterations"
        return f"Run({self.train.algo} on {self.train.family}, seed {self.train.seed}, {made})"

    @property
    def reopening(self) -> str:
        """` --trust` if a command that opens this run needs it, else empty."""
        return flag_for(self.train, texts(self.record))

    @property
    def resuming(self) -> str:
        """The same for a command that trains it further, with its trackers and callbacks."""
        return flag_for(self.train, texts(self.record), self.run)
