"""Running mean and variance of what an agent sees, and how a policy takes them in."""

from __future__ import annotations

import copy
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from metarl.agents.networks.policy import Policy, as_input

P = TypeVar("P", bound=Policy)
ROUNDING = 4  # units in the last place by which equal numbers may differ
EPSILON = 1e-8  # added to variances; what varies less than that is centred, and not scaled


class Moments(NamedTuple):
    """Of everything seen so far, float64."""

    steps: Tensor  # ()
    mean: Tensor  # (...)
    var: Tensor  # (...)


def moments(x: Tensor, mask: Tensor) -> Moments:
    """Of the living steps of x (N, T, B, ...); bytes count as 0 to 1."""
    valid = mask.double().view(*mask.shape, *(1,) * (x.dim() - 3))
    numbers, steps = as_input(x, torch.float64), mask.double().sum()
    mean = (numbers * valid).sum((0, 1, 2)) / steps
    return Moments(steps, mean, ((numbers - mean).square() * valid).sum((0, 1, 2)) / steps)


def merge(one: Moments | None, other: Moments) -> Moments:
    """Of two sets of steps taken together.

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
    """What centred numbers are multiplied by, of which the policy sees `kind`.

    Those that vary by no more than rounding does, relative to their mean, are not scaled.
    """
    rounding = ROUNDING * torch.finfo(kind).eps * of.mean.abs()
    varied = of.var > EPSILON + rounding.square()
    return torch.where(varied, (of.var + EPSILON).rsqrt(), 1.0)


def with_moments(policy: P, obs: Moments | None, ret: Moments | None = None) -> P:
    """A copy of the policy that sees observations, and rewards if it reads any, normalised.

    Nothing is clipped, so that an observation's normalisation is linear.
    """
    new = copy.deepcopy(policy)
    like = next(iter(policy.parameters()))
    if obs:
        new.obs_mean, new.obs_scale = obs.mean.to(like), scale(obs, like.dtype).to(like)
    if ret:
        new.rew_scale = scale(ret, like.dtype).to(like)
    return new
