"""A gradient-based agent: a policy, its slow weights and its inner update rule."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from metarl.agents.inner.estimators import ESTIMATORS
from metarl.agents.inner.inner_update import inner_update, per_task
from metarl.agents.learners.base import Learner
from metarl.agents.learners.prediction import Array, as_actions, as_batch, chosen
from metarl.agents.learners.saving import Savable
from metarl.agents.networks.policy import Params, Policy, act_dist
from metarl.agents.networks.summary import summary
from metarl.agents.rollouts.batch import Batch, make_batch, mean_entropy
from metarl.agents.rollouts.learned_baseline import make_baseline
from metarl.agents.rollouts.rollout import Actor, Rollout, collect, feedforward_actor
from metarl.envs import Family


@dataclass(frozen=True)
class InnerRule:
    """How an inner step is computed from episodes; `inner_lr` selects the fast weights."""

    gamma: float = 0.99
    gae_lambda: float = 1.0
    baseline: str = "linear"  # or "learned", "none"
    estimator: str = "lvc"  # a name in ESTIMATORS
    dice_lambda: float = 1.0
    entropy: float = 0.0  # weight of the entropy bonus, per nat
    max_norm: float = 0.0  # bound of a task's gradient norm; 0 doesn't clip
    iterations: int = 1  # gradients per step; more than one approach the proximal point
    per_step: bool = False  # step sizes have a leading axis with one entry per step


@dataclass(frozen=True)
class Agent(Savable, Learner):
    """A policy with slow weights and step sizes or, once adapted, the fast weights of N tasks.

    Attributes:
        params: weights (...); after `learn` or `adapt` fast weights are (N, ...).
        inner_lr: step size of each fast weight, () or the shape of the slow weight. With
            `rule.per_step` (K, ...), one for each step; further steps use the last.
        value: weights of a learned baseline, or empty.
        steps: inner steps taken.
    """

    step_name: ClassVar[str] = "inner steps"

    policy: Policy
    params: Params
    inner_lr: Params
    rule: InnerRule = InnerRule()
    value: Params = field(default_factory=dict)
    steps: int = 0

    @property
    def adapted(self) -> bool:
        """Whether the weights have a task axis."""
        return any(p.dim() > self.policy.get_parameter(k).dim() for k, p in self.params.items())

    @property
    def tasks(self) -> int:
        """Number of tasks the weights are adapted to; 1 before adaptation."""
        slow = {k: self.policy.get_parameter(k).dim() for k in self.params}
        return next((len(p) for k, p in self.params.items() if p.dim() > slow[k]), 1)

    def __repr__(self) -> str:
        fast = f"{len(self.inner_lr)} of {len(self.params)} tensors fast"
        how = f"{self.steps} {self.step_name} in {self.tasks} tasks" if self.adapted else "slow"
        return f"Agent({summary(self.policy)}, {fast}, {self.rule.estimator}, {how})"

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(iter(self.params.values())).device

    def to(self, device: torch.device | str) -> Agent:
        """A copy of the agent on another device."""
        moved: dict[str, Any] = {
            group: {k: p.to(device) for k, p in getattr(self, group).items()}
            for group in ("params", "inner_lr", "value")
        }
        return dataclasses.replace(self, policy=copy.deepcopy(self.policy).to(device), **moved)

    def play(
        self,
        family: Family,
        task: Any,
        episodes: int = 20,
        gen: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> Rollout:
        """Collect complete episodes of each of the N tasks with the current weights.

        Args:
            deterministic: take the most likely action at each step instead of a sampled one.
        """
        task = type(task)(*(x.to(self.device) for x in task))
        return collect(self.policy, self.params, family, task, episodes, gen, deterministic)

    def actor(self) -> Actor:
        """An actor with the current weights."""
        return partial(feedforward_actor, self.policy, self.params)

    def batch(self, data: Rollout) -> Batch:
        """The rollout with its advantages, as a batch for the losses."""
        return make_batch(data, self.rule.gamma, self.rule.gae_lambda, self._baseline)

    def _baseline(self, obs: Tensor, ret: Tensor, mask: Tensor) -> Tensor:
        """Values (N, T, B) from the observations as the policy normalizes them."""
        if self.policy.obs_mean is not None:
            obs = self.policy.preprocess(obs)
        return make_baseline(self.rule.baseline, self.value)(obs, ret, mask)

    def fast(self, n: int) -> Params:
        """The weights, with a task axis of size n on the fast ones, which require gradients."""
        weights = self.params if self.adapted else per_task(self.params, n, self.inner_lr)
        return {
            k: p.detach().requires_grad_() if k in self.inner_lr and not p.requires_grad else p
            for k, p in weights.items()
        }

    def inner_loss(self, params: Params, batch: Batch) -> Tensor:
        """Inner loss of each task, (N,)."""
        rule = self.rule
        dist = act_dist(self.policy, params, batch.obs)
        loss = ESTIMATORS[rule.estimator](dist.log_prob(batch.act), batch, rule.dice_lambda)
        return loss - rule.entropy * mean_entropy(dist, batch) if rule.entropy else loss

    def step_size(self, step: int) -> Params:
        """Step size of each fast weight in inner step `step`, counted from 0."""
        if not self.rule.per_step:
            return self.inner_lr
        return {k: lr[min(step, len(lr) - 1)] for k, lr in self.inner_lr.items()}

    def inner_step(
        self, params: Params, batch: Batch, step: int, first_order: bool = False
    ) -> Params:
        """Weights after one inner step; differentiable unless `first_order`."""
        lr, rule = self.step_size(step), self.rule
        return inner_update(
            self.inner_loss, params, batch, lr, first_order, rule.max_norm, rule.iterations
        )

    def learn(self, data: Rollout) -> Agent:
        """A new agent after one inner step, with fast weights (N, ...)."""
        slow = {k: p.detach() for k, p in self.params.items()}
        start = dataclasses.replace(self, params=slow).fast(data.rew.shape[0])
        new = self.inner_step(start, self.batch(data), self.steps, first_order=True)
        params = {k: p.detach() for k, p in new.items()}
        return dataclasses.replace(self, params=params, steps=self.steps + 1)

    @torch.no_grad()
    def predict(
        self,
        obs: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        reward: Any = None,
    ) -> tuple[Array, Any]:
        """Actions at observations, with the interface of Stable-Baselines3's `predict`.

        Uses the slow weights or, once adapted, those of each task. An agent adapted to N tasks
        needs a batch with the same number of consecutive observations for each task.

        Args:
            obs: one observation or a batch.
            state, episode_start, reward: used by recurrent agents only; ignored.
            deterministic: take the most likely actions instead of sampled ones.

        Returns:
            Actions within the family's action space, and `state`.

        Raises:
            UsageError: observations have an invalid shape or dtype.
        """
        seen, acts = self.policy.spaces
        x, single = as_batch(seen, obs, self.tasks, self.device)
        act = chosen(act_dist(self.policy, self.params, x), deterministic)
        return as_actions(acts, act, single), state

    @torch.no_grad()
    def act(self, obs: Tensor, gen: torch.Generator | None = None) -> Tensor:
        """Sampled actions (N, M, A) or (N, M) at obs (N, M, *obs)."""
        dist = act_dist(self.policy, self.params, obs)
        return dist.sample(dist.noise(gen=gen))
