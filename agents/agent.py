"""An agent: a policy, its slow weights, and the rule by which it adapts."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from agents.adapt import inner_update, per_task
from agents.convolution import CNN
from agents.losses import make_batch, surrogate
from agents.policy import MLP, Params, Policy, act_dist
from agents.rollout import Rollout, collect
from envs import Family

PolicyKind = Literal["auto", "mlp", "cnn"]


def make_policy(
    family: Family, kind: PolicyKind, hidden: tuple[int, ...], log_std_init: float
) -> Policy:
    """The policy for a family's spaces; `auto` is a CNN for planes (C, H, W) of 8 x 8 or more.

    Raises:
        UsageError: spaces that no policy here, or not this one, can take.
    """
    shape = family.observation_space.shape or ()
    image = len(shape) == 3 and min(shape[1:]) >= 8
    policy = CNN if kind == "cnn" or (kind == "auto" and image) else MLP
    return policy(family.observation_space, family.action_space, hidden, log_std_init)


@dataclass(frozen=True)
class Agent:
    """Slow weights and step sizes; or, once adapted, the fast weights of N tasks.

    Attributes:
        params: weights (...), or (N, ...) after `learn` or `adapt`.
        inner_lr: step size for each weight, () or of the slow weight's shape.
    """

    policy: nn.Module
    params: Params
    inner_lr: Params
    gamma: float
    gae_lambda: float

    @property
    def adapted(self) -> bool:
        """Whether the weights carry a task axis."""
        name, weight = next(iter(self.params.items()))
        return weight.dim() > self.policy.get_parameter(name).dim()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(iter(self.params.values())).device

    def to(self, device: torch.device | str) -> Agent:
        """The same agent on another device."""
        return dataclasses.replace(
            self,
            policy=copy.deepcopy(self.policy).to(device),
            params={k: p.to(device) for k, p in self.params.items()},
            inner_lr={k: p.to(device) for k, p in self.inner_lr.items()},
        )

    def play(
        self, family: Family, task: Any, episodes: int = 20, gen: torch.Generator | None = None
    ) -> Rollout:
        """Whole episodes of each of the N tasks under the present weights."""
        here = type(task)(*(x.to(self.device) for x in task))
        return collect(self.policy, self.params, family, here, episodes, gen)

    def learn(self, data: Rollout) -> Agent:
        """The agent one inner step later, its weights (N, ...); this one stays as it is."""
        batch = make_batch(data, self.gamma, self.gae_lambda)
        fast = self.params if self.adapted else per_task(self.params, data.rew.shape[0])
        fast = {k: p.detach().requires_grad_() for k, p in fast.items()}
        loss = partial(surrogate, self.policy)
        fast = inner_update(loss, fast, batch, self.inner_lr, first_order=True)
        return dataclasses.replace(self, params={k: p.detach() for k, p in fast.items()})

    def adapt(
        self,
        family: Family,
        task: Any,
        steps: int = 3,
        episodes: int = 20,
        gen: torch.Generator | None = None,
    ) -> Agent:
        """Play and learn in turn, `steps` times, on new episodes each time."""
        agent = self
        for _ in range(steps):
            agent = agent.learn(agent.play(family, task, episodes, gen))
        return agent

    @torch.no_grad()
    def act(self, obs: Tensor, gen: torch.Generator | None = None) -> Tensor:
        """Sampled actions (N, M, A) or (N, M) at obs (N, M, *obs)."""
        dist = act_dist(self.policy, self.params, obs)
        return dist.sample(dist.noise(gen=gen))
