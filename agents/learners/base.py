"""The interface of all agents: adapting alternates collecting episodes and learning from them."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import torch

from metarl.agents.rollouts.rollout import Rollout
from metarl.envs import Family, UsageError


class Learner(Protocol):
    """An agent that collects episodes and learns from them."""

    def play(
        self,
        family: Family,
        task: Any,
        episodes: int = 20,
        gen: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Rollout:
        """Collect `episodes` complete episodes of each of N tasks."""
        ...

    def learn(self: L, data: Rollout) -> L:
        """A new agent, one adaptation step later."""
        ...

    def adapt(
        self: L,
        family: Family,
        task: Any,
        steps: int = 3,
        episodes: int = 20,
        gen: torch.Generator | None = None,
    ) -> L:
        """Collect new episodes and learn from them, `steps` times.

        Raises:
            UsageError: the spaces of the family differ from the agent's.
        """
        check_spaces(self, family)
        agent = self
        for _ in range(steps):
            agent = agent.learn(agent.play(family, task, episodes, gen))
        return agent


def check_spaces(agent: Any, family: Family) -> None:
    """Raise UsageError unless the agent's spaces match the family's.

    Observation bounds may differ, since agents don't use them.
    """
    obs_space, act_space = agent.policy.spaces
    given = family.observation_space
    if (obs_space.shape, obs_space.dtype) != (given.shape, given.dtype):
        raise UsageError(
            f"the agent observes {obs_space}, but {family.name} has {given}: give the family that "
            "the agent was trained on, or one with the same spaces."
        )
    if act_space != family.action_space:
        raise UsageError(
            f"the agent's actions are {act_space}, but {family.name} has {family.action_space}: "
            "give the family that the agent was trained on, or one with the same spaces."
        )


L = TypeVar("L", bound=Learner)
