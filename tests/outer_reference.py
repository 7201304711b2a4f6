"""One task at a time what outer rules do for all at once; and data to try it on."""

from __future__ import annotations

import torch
from agents_reference import POISON, gradient, living_steps
from torch import Tensor

from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.networks.policy import Params, Policy, act_dist
from metarl.agents.rollouts.batch import Batch


def some_batch(
    policy: Policy, params: Params, gen: torch.Generator, lengths: list[list[int]]
) -> Batch:
    """Data collected with `params`, float64, episodes of these lengths; the padding is poisoned."""
    mask = living_steps(lengths, max(map(max, lengths))).flatten(1)  # (N, M)
    obs = torch.randn(*mask.shape, 2, generator=gen).double()
    dist = act_dist(policy, params, obs)
    act = dist.sample(dist.noise(gen=gen))
    adv, logp = torch.randn(mask.shape, generator=gen).double(), dist.log_prob(act)
    over = mask == 0
    obs[over], adv[over], logp[over] = POISON, POISON, -POISON
    return Batch(obs, act, logp, adv, mask / mask.sum(1, keepdim=True), dist, len(lengths[0]))


def row(batch: Batch, n: int) -> Batch:
    """Task n alone, N = 1."""
    dist = type(batch.dist)(*(x[n : n + 1] if x.dim() > 1 else x for x in batch.dist))
    own = {k: x[n : n + 1] for k, x in batch._asdict().items() if isinstance(x, Tensor)}
    return batch._replace(**own, dist=dist)


def adapt_alone(agent: Agent, start: Params, batches: list[Batch], n: int) -> tuple[Params, Params]:
    """Task n's weights (...) after a step on its row of each batch, and the gradients' sum."""
    own = dict(start)
    total = {k: torch.zeros_like(own[k]) for k in agent.inner_lr}
    for data in (row(batch, n) for batch in batches):

        def loss(fast: Params, own: Params = own, data: Batch = data) -> Tensor:
            every = {k: p.unsqueeze(0) for k, p in {**own, **fast}.items()}
            return agent.inner_loss(every, data).sum()

        step = gradient(loss, {k: own[k] for k in agent.inner_lr})
        own = {**own, **{k: own[k] - agent.inner_lr[k] * g for k, g in step.items()}}
        total = {k: total[k] + g for k, g in step.items()}
    return own, total
