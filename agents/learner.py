"""What all agents share: to adapt is to play and to learn in turn."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import torch

from agents.rollout import Rollout
from envs import Family


class Learner(Protocol):
    """Plays, and learns from what it played."""

    def play(
        self, family: Family, task: Any, episodes: int = 20, gen: torch.Generator | None = None
    ) -> Rollout:
        """Whole episodes of each of N tasks."""
        ...

    def learn(self: L, data: Rollout) -> L:
        """The agent one step of adaptation later."""
        ...

    def adapt(
        self: L,
        family: Family,
        task: Any,
        steps: int = 3,
        episodes: int = 20,
        gen: torch.Generator | None = None,
    ) -> L:
        """Play and learn in turn, `steps` times, on new episodes each time."""
        agent = self
        for _ in range(steps):
            agent = agent.learn(agent.play(family, task, episodes, gen))
        return agent


L = TypeVar("L", bound=Learner)
