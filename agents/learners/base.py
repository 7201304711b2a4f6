"""What all agents share: to adapt is to play and to learn in turn."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import torch

from metarl.agents.rollouts.rollout import Rollout
from metarl.envs import Family, UsageError


class Learner(Protocol):
    """Plays, and learns from what it played."""

    def play(
        self,
        family: Family,
        task: Any,
        episodes: int = 20,
        gen: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Rollout:
        """Whole episodes of each of N tasks; with sampled actions, or the most likely ones."""
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
        """Play and learn in turn, `steps` times, on new episodes each time.

        Raises:
            UsageError: the family has other spaces than the agent.
        """
        check_spaces(self, family)
        agent = self
        for _ in range(steps):
            agent = agent.learn(agent.play(family, task, episodes, gen))
        return agent


def check_spaces(agent: Any, family: Family) -> None:
    """Raise UsageError unless the agent sees and does what episodes of the family give and take.

    Bounds of observations may differ, since nothing is made of them.
    """
    (seen, acts), now = agent.policy.spaces, (family.observation_space, family.action_space)
    if (seen.shape, seen.dtype) != (now[0].shape, now[0].dtype):
        raise UsageError(
            f"the agent sees {seen}, {family.name} gives {now[0]}: give the family that the agent "
            "was trained on, or one with the same spaces."
        )
    if acts != now[1]:
        raise UsageError(
            f"the agent's actions are {acts}, {family.name} takes {now[1]}: give the family that "
            "the agent was trained on, or one with the same spaces."
        )


L = TypeVar("L", bound=Learner)
