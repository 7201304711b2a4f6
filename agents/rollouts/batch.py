"""Batches of rollout steps, and losses and statistics of them, one value per task."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metarl.agents.networks.distributions import Distribution
from metarl.agents.rollouts.advantages import Baseline, advantages, linear_baseline
from metarl.agents.rollouts.rollout import Rollout


class Batch(NamedTuple):
    """Steps of a rollout, M = T * B per task."""

    obs: Tensor  # (N, M, *obs)
    act: Tensor  # (N, M, A) or (N, M)
    logp: Tensor  # (N, M) nats under the collecting weights, constant
    adv: Tensor  # (N, M)
    weight: Tensor  # (N, M) 1 / valid steps of the task; 0 in the padding
    dist: Distribution  # (N, M, ...) distributions the actions were sampled from
    episodes: int  # B


def make_batch(
    data: Rollout, gamma: float, gae_lambda: float, baseline: Baseline = linear_baseline
) -> Batch:
    """Flatten a rollout, estimate advantages, and weight valid steps equally."""
    weight = data.mask / data.mask.sum((1, 2), keepdim=True)
    adv = advantages(data, gamma, gae_lambda, baseline)
    obs, act, logp, adv, weight = (
        x.flatten(1, 2) for x in (data.obs, data.act, data.logp, adv, weight)
    )
    dist = type(data.dist)(*(x.flatten(1, 2) if x.dim() >= 4 else x for x in data.dist))
    return Batch(obs, act, logp, adv, weight, dist, data.rew.shape[2])


def log_ratio(logp: Tensor, batch: Batch) -> Tensor:
    """Log likelihood ratio to the collecting policy, nats, (N, M); 0 in the padding."""
    # In the padding the ratio might overflow when exponentiated, and inf * 0 is NaN.
    return torch.where(batch.weight > 0, logp - batch.logp, 0)


def clipped_surrogate(dist: Distribution, batch: Batch, clip: float) -> Tensor:
    """Negative PPO objective of each task, (N,); `clip` 0 doesn't clip.

    Source: Schulman et al. 2017 (arXiv:1707.06347), section 3.
    """
    ratio = log_ratio(dist.log_prob(batch.act), batch).exp()
    gain = ratio * batch.adv
    if clip:
        gain = gain.minimum(ratio.clamp(1 - clip, 1 + clip) * batch.adv)
    return -(gain * batch.weight).sum(-1)


def mean_kl(dist: Distribution, batch: Batch) -> Tensor:
    """Mean KL(collecting policy || dist) over valid steps, nats, (N,)."""
    return (batch.dist.kl(dist) * batch.weight).sum(-1)  # type: ignore[arg-type]


def mean_entropy(dist: Distribution, batch: Batch) -> Tensor:
    """Mean entropy over valid steps, nats, (N,)."""
    return (dist.entropy() * batch.weight).sum(-1)
