"""Running mean and variance of observations and returns, and normalization with them."""

from __future__ import annotations

import copy
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from metarl.agents.networks.policy import Policy, as_input

P = TypeVar("P", bound=Policy)
ROUNDING = 4  # units in the last place by which numbers that should be equal may differ
EPSILON = 1e-8  # added to variances; dimensions with less variance are centered but not scaled


class Moments(NamedTuple):
    """Count, mean and variance of all steps so far, float64."""

    steps: Tensor  # ()
    mean: Tensor  # (...)
    var: Tensor  # (...)


def moments(x: Tensor, mask: Tensor) -> Moments:
    """Mean and variance over the valid steps of x (N, T, B, ...); uint8 is scaled to [0, 1]."""
    valid = mask.double().view(*mask.shape, *(1,) * (x.dim() - 3))
    numbers, steps = as_input(x, torch.float64), mask.double().sum()
    mean = (numbers * valid).sum((0, 1, 2)) / steps
    return Moments(steps, mean, ((numbers - mean).square() * valid).sum((0, 1, 2)) / steps)


def merge(one: Moments | None, other: Moments) -> Moments:
    """Mean and variance over the union of two sets of steps.

    Source: Chan, Golub and LeVeque 1983, Algorithms for computing the sample variance, section 2.
    """
    if one is None:
        return other
    steps = one.steps + other.steps
    share = other.steps / steps
    shift = other.mean - one.mean
    between = shift.square() * share * (1 - share)
    var = one.var * (1 - share) + other.var * share + between
    return Moments(steps, one.mean + shift * share, var)


def scale(of: Moments, kind: torch.dtype) -> Tensor:
    """Factor that scales centered values to unit variance.

    Dimensions that vary, relative to their mean, by no more than rounding errors in `kind` get 1.
    """
    rounding = ROUNDING * torch.finfo(kind).eps * of.mean.abs()
    varied = of.var > EPSILON + rounding.square()
    return torch.where(varied, (of.var + EPSILON).rsqrt(), 1.0)


def with_moments(policy: P, obs: Moments | None, ret: Moments | None = None) -> P:
    """A copy of the policy that normalizes observations, and rewards if `ret` is given.

    Normalized values are not clipped, so normalization is linear in the observation.
    """
    new = copy.deepcopy(policy)
    like = next(iter(policy.parameters()))
    if obs:
        new.obs_mean, new.obs_scale = obs.mean.to(like), scale(obs, like.dtype).to(like)
    if ret:
        new.rew_scale = scale(ret, like.dtype).to(like)
    return new
