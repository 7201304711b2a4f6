"""Agents that adapt in the hidden state of a recurrent policy.

A trial, as in RL² (arXiv:1611.02779), is several episodes of one task. The hidden state is kept
between the episodes of a trial and reset between trials.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from metarl.agents.learners.base import Learner
from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.learners.prediction import (
    Array,
    RecurrentState,
    as_actions,
    as_batch,
    as_state,
    chosen,
    continued,
)
from metarl.agents.learners.saving import Savable
from metarl.agents.networks.distributions import Distribution
from metarl.agents.networks.policy import Params
from metarl.agents.networks.recurrent_cells import last_valid
from metarl.agents.networks.recurrent_policy import MemoryPolicy, recurrent_forward
from metarl.agents.networks.summary import summary
from metarl.agents.rollouts.rollout import Actor, Last, Rollout, collect_by
from metarl.envs import Family
from metarl.envs.core.errors import UsageError


class Memory(NamedTuple):
    """Hidden state and previous step of B trials in each of N tasks."""

    state: Tensor  # (N, B, *state_shape) of the cell
    act: Tensor  # (N, B, A) previous action, as `MemoryPolicy.numbers` returns it; 0 at the start
    rew: Tensor  # (N, B) previous reward; 0 at the start


class Steps(NamedTuple):
    """M trials with the valid steps of each moved to the front.

    Removing the padding between episodes makes a trial one sequence, so a cell needs no mask
    between episodes.
    """

    x: Tensor  # (T, M, inputs) network input
    act: Tensor  # (T, M, A) or (T, M)
    logp: Tensor  # (T, M) nats under the collecting weights
    rew: Tensor  # (T, M)
    mask: Tensor  # (T, M) 1.0 for valid steps, then 0.0
    dist: Distribution  # (T, M, ...) distributions the actions were sampled from


def _first(rew: Tensor) -> Tensor:
    """1 at the first of T steps, 0 at all others, (N, T, B)."""
    return torch.cat((torch.ones_like(rew[:, :1]), torch.zeros_like(rew[:, 1:])), dim=1)


def pack_episodes(policy: MemoryPolicy, episodes: list[Rollout], memory: Memory) -> Steps:
    """M = N * B trials that continue from `memory` with these consecutive episodes."""

    def concatenate(parts: list[Tensor]) -> Tensor:
        """(N, T, B, ...) of each episode to (sum of T, M, ...)."""
        return torch.cat(parts, dim=1).transpose(0, 1).flatten(1, 2)

    # A stable sort keeps valid steps in order.
    order = concatenate([e.mask for e in episodes]).argsort(dim=0, descending=True, stable=True)

    def valid_first(parts: list[Tensor]) -> Tensor:
        x = concatenate(parts)
        return x.take_along_dim(order.view(*order.shape, *(1,) * (x.dim() - 2)), 0)

    def shift(start: Tensor, x: Tensor) -> Tensor:
        """Values of the previous step."""
        return torch.cat((start.flatten(0, 1).unsqueeze(0), x[:-1]))

    fields = zip(*(e[:5] for e in episodes), strict=True)
    obs, act, logp, rew, mask = (valid_first(list(parts)) for parts in fields)
    first = valid_first([_first(e.rew) for e in episodes])
    last_act = shift(memory.act, policy.numbers(act).to(rew.dtype))
    x = policy.inputs(obs, last_act, shift(memory.rew, rew), first)
    numbers = zip(*(e.dist for e in episodes), strict=True)  # log_std (A,) has no step axis
    dist = (valid_first(list(parts)) if parts[0].dim() > 2 else parts[0] for parts in numbers)
    return Steps(x, act, logp, rew, mask, type(episodes[0].dist)(*dist))


@dataclass(frozen=True)
class MemoryAgent(Savable, Learner):
    """A recurrent policy with fixed weights, and the hidden state of the current trials.

    Attributes:
        params: weights (...).
        memory: None before the first episode of a trial.
        inner_lr: empty, since no weights adapt.
    """

    step_name: ClassVar[str] = "remembered episodes"

    policy: MemoryPolicy
    params: Params
    memory: Memory | None = None
    inner_lr: Params = field(default_factory=dict)

    @property
    def adapted(self) -> bool:
        """Whether the agent has a hidden state from earlier episodes."""
        return self.memory is not None

    def __repr__(self) -> str:
        seen = "no trials under way"
        if self.memory is not None:
            tasks, trials = self.memory.rew.shape
            seen = f"{tasks} tasks x {trials} trials under way"
        return f"MemoryAgent({summary(self.policy)}, {seen})"

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.params["critic.weight"].device

    def to(self, device: torch.device | str) -> MemoryAgent:
        """A copy of the agent on another device."""
        return dataclasses.replace(
            self,
            policy=copy.deepcopy(self.policy).to(device),
            params={k: p.to(device) for k, p in self.params.items()},
            memory=self.memory and Memory(*(x.to(device) for x in self.memory)),
        )

    def hidden_state_for(self, n: int, episodes: int) -> Memory:
        """Memory of the first `episodes` trials of each of n tasks; zeros for new trials.

        Raises:
            UsageError: the current trials are fewer, or belong to a different number of tasks.
        """
        like = self.params["critic.weight"]
        if self.memory is None:
            state, act = self.policy.cell.state_shape, (self.policy.out,)
            return Memory(*(like.new_zeros(n, episodes, *shape) for shape in (state, act, ())))
        tasks, trials = self.memory.rew.shape
        if tasks != n or trials < episodes:
            raise UsageError(
                f"{n} tasks x {episodes} episodes: the agent has the hidden state of {tasks} x "
                f"{trials} trials: give {tasks} tasks and at most {trials} episodes, or an agent "
                "that has not adapted."
            )
        return Memory(*(x[:, :episodes] for x in self.memory))

    def actor(self) -> Actor:
        """An actor for the next episode of each trial."""
        memory: Memory | None = None

        def act(obs: Tensor, last: Last | None) -> Distribution:
            nonlocal memory
            if memory is None:
                memory = self.hidden_state_for(*obs.shape[:2])
            if last is not None:
                numbers = self.policy.numbers(last.act).to(last.rew.dtype)
                memory = memory._replace(act=numbers, rew=last.rew)
            first = torch.full_like(memory.rew, float(last is None))
            x = self.policy.inputs(obs, memory.act, memory.rew, first)
            dist, _, state = recurrent_forward(self.policy, self.params, x, memory.state)
            memory = memory._replace(state=state)
            return dist

        return act

    def play(
        self,
        family: Family,
        task: Any,
        episodes: int = 20,
        gen: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Rollout:
        """Collect the next episode of `episodes` trials of each of the N tasks.

        Args:
            deterministic: take the most likely action at each step instead of a sampled one.
        """
        task = type(task)(*(x.to(self.device) for x in task))
        return collect_by(self.actor(), family, task, episodes, gen, deterministic=deterministic)

    @torch.no_grad()
    def learn(self, data: Rollout) -> MemoryAgent:
        """A new agent whose hidden state includes these episodes."""
        n, _, b = data.rew.shape
        memory = self.hidden_state_for(n, b)
        steps = pack_episodes(self.policy, [data], memory)
        state = memory.state.flatten(0, 1)
        _, _, state = recurrent_forward(self.policy, self.params, steps.x, state, steps.mask)
        act = self.policy.numbers(steps.act).to(steps.rew.dtype)
        last = (
            state,
            last_valid(memory.act.flatten(0, 1), act, steps.mask),
            last_valid(memory.rew.flatten(0, 1), steps.rew, steps.mask),
        )
        return dataclasses.replace(self, memory=Memory(*(x.unflatten(0, (n, b)) for x in last)))

    @torch.no_grad()
    def predict(
        self,
        obs: Any,
        state: RecurrentState | None = None,
        episode_start: Any = None,
        deterministic: bool = False,
        reward: Any = None,
    ) -> tuple[Array, RecurrentState]:
        """Actions at the next observations of trials, similar to Stable-Baselines3's `predict`.

        A trial is several episodes of one task, and the state is kept when an episode ends. With
        `state=None` trials start, or continue from the hidden state of an adapted agent. Unlike in
        SB3, the reward of the previous step is also required, since it is a network input.

        Args:
            obs: one observation, or a batch of M, one per trial; see `Agent.predict`.
            state: the state returned by the previous call.
            episode_start: (M,) whether each observation is the first of an episode; with
                `state=None` all are.
            deterministic: take the most likely actions instead of sampled ones.
            reward: (M,) rewards of the previous actions, including those that ended an episode; not
                needed with `state=None`.

        Returns:
            Actions within the family's action space, and the state.

        Raises:
            UsageError: a state without a reward, or an invalid shape.
        """
        seen, acts = self.policy.spaces
        tasks = 1 if self.memory is None else self.memory.rew.shape[0]
        x, single = as_batch(seen, obs, tasks, self.device)
        memory = (
            self if state is None else dataclasses.replace(self, memory=None)
        ).hidden_state_for(*x.shape[:2])
        first = torch.ones_like(memory.rew)
        if state is not None:
            parts, first = continued(state, episode_start, reward, memory)
            memory = Memory(*parts)
        inputs = self.policy.inputs(x, memory.act, memory.rew, first)
        dist, _, new = recurrent_forward(self.policy, self.params, inputs, memory.state)
        act = chosen(dist, deterministic)
        # The network's input is the unclipped action, as in rollouts.
        numbers = self.policy.numbers(act).to(memory.rew.dtype)
        return as_actions(acts, act, single), as_state((new, numbers))

    @torch.no_grad()
    def act(self, obs: Tensor, gen: torch.Generator | None = None) -> Tensor:
        """Sampled first actions of the next episode, (N, M, A) or (N, M), at obs (N, M, *obs).

        Later steps depend on the history of the episode; use `actor` for them.
        """
        dist = self.actor()(obs, None)
        return dist.sample(dist.noise(gen=gen))


AnyAgent = Agent | MemoryAgent
