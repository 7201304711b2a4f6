"""A baseline with meta-learned features whose last layer is fitted to each task."""

from __future__ import annotations

import math
from functools import partial

import torch
from gymnasium.spaces import Space
from torch import Tensor, nn

from metarl.agents.networks.policy import Params, as_input, linear, observation_shape
from metarl.agents.rollouts.advantages import (
    Baseline,
    discounted_sum,
    least_squares,
    linear_baseline,
    no_baseline,
)
from metarl.agents.rollouts.rollout import Rollout

FEATURES = 32


def initial_value(observation_space: Space, gen: torch.Generator | None = None) -> Params:
    """Initial feature weights, drawn on the CPU so that a seed gives the same on every device."""
    size = math.prod(observation_shape(observation_space))
    weight = nn.init.orthogonal_(torch.empty(FEATURES, size), generator=gen)
    return {"weight": weight, "bias": torch.zeros(FEATURES)}


def learned_baseline(value: Params, obs: Tensor, ret: Tensor, mask: Tensor) -> Tensor:
    """Values (N, T, B) fitted to `ret` in each task, linear in learned features and time.

    Source: closed-form regression heads, Bertinetto et al. 2019 (arXiv:1805.08136), section 3.
    """
    x = as_input(obs, value["weight"].dtype).flatten(3).clamp(-10, 10)
    features = (linear(x, value["weight"]) + value["bias"]).tanh()
    return least_squares(features, ret, mask)


def value_loss(value: Params, data: Rollout, gamma: float) -> Tensor:
    """Unexplained share of the variance of returns, averaged over tasks, ()."""
    ret = discounted_sum(data.rew, gamma)
    residual = ret - learned_baseline(value, data.obs, ret, data.mask)
    count = data.mask.sum((1, 2))
    mean = ((ret * data.mask).sum((1, 2)) / count).view(-1, 1, 1)
    total = ((ret - mean).square() * data.mask).sum((1, 2))
    # If returns are constant, their variance is 0 and the ridge leaves about 1e-5 of their mean.
    floor = 1e-6 * (ret.square() * data.mask).sum((1, 2)) + 1e-8
    return ((residual.square() * data.mask).sum((1, 2)) / (total + floor)).mean()


def make_baseline(kind: str, value: Params) -> Baseline:
    """Look up a baseline by name; `value` holds the weights of a learned one."""
    if kind == "learned":
        # Advantages are treated as data; the baseline is trained by `value_loss` alone.
        return torch.no_grad()(partial(learned_baseline, value))
    return {"linear": linear_baseline, "none": no_baseline}[kind]
