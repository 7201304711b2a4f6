"""Returns, advantages, and the baseline that is refitted for every task and inner step.

Returns are finite-horizon throughout. The value after an episode's last step is 0, whether the
episode was terminated or truncated. This is consistent because the baseline depends on the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from metarl.agents.networks.policy import as_input
from metarl.agents.networks.running_stats import ROUNDING
from metarl.agents.rollouts.rollout import Rollout

RIDGE = 1e-5  # regularization of the baseline's normal equations, which are means over steps
Baseline = Callable[[Tensor, Tensor, Tensor], Tensor]  # obs, ret, mask -> values (N, T, B)


def discounted_sum(x: Tensor, discount: float) -> Tensor:
    """sum_{l >= 0} discount^l x[:, t + l], (N, T, B)."""
    total, out = torch.zeros_like(x[:, 0]), []
    for step in reversed(x.unbind(dim=1)):
        total = step + discount * total
        out.append(total)
    return torch.stack(out[::-1], dim=1)


def gae(rew: Tensor, val: Tensor, mask: Tensor, gamma: float, gae_lambda: float) -> Tensor:
    """Generalized advantage estimate, (N, T, B); 0 in the padding.

    Args:
        val: (N, T, B) V(s_t) of the baseline; ignored in the padding.

    Source: Schulman et al. 2016 (arXiv:1506.02438), section 3.
    """
    val = torch.where(mask > 0, val, 0)
    val_next = torch.cat((val[:, 1:], torch.zeros_like(val[:, :1])), dim=1)
    delta = torch.where(mask > 0, rew + gamma * val_next - val, 0)
    return discounted_sum(delta, gamma * gae_lambda)


def linear_baseline(obs: Tensor, ret: Tensor, mask: Tensor, ridge: float = RIDGE) -> Tensor:
    """Values (N, T, B) fitted to `ret` in each task, linear in `observation_features` and time.

    Source: Duan et al. 2016 (arXiv:1604.06778), section 4.
    """
    return least_squares(observation_features(obs), ret, mask, ridge)


def least_squares(features: Tensor, ret: Tensor, mask: Tensor, ridge: float = RIDGE) -> Tensor:
    """Values (N, T, B) of a ridge regression of `ret` in each task, in closed form.

    The normal equations are solved in float64 and divided by the number of valid steps, so that
    `ridge` has the same effect for long and short rollouts. Differentiable in the features.

    Args:
        features: (N, T, B, F); t, t^2 and t^3 in units of 100 steps, and 1, are appended.
    """
    n, steps, episodes = ret.shape
    x = features.double()
    t = torch.arange(steps, device=x.device, dtype=x.dtype).view(1, steps, 1, 1) / 100
    clock = torch.cat((t, t**2, t**3, torch.ones_like(t)), dim=-1).expand(n, -1, episodes, -1)
    feature = torch.cat((x, clock), dim=-1).flatten(1, 2)  # (N, T * B, F + 4)
    weight = (mask / mask.sum((1, 2), keepdim=True)).flatten(1, 2).unsqueeze(-1).to(x.dtype)
    weighted = (feature * weight).mT
    gram = weighted @ feature + ridge * torch.eye(feature.shape[-1], dtype=x.dtype, device=x.device)
    factor, _ = torch.linalg.cholesky_ex(gram)  # linalg.cholesky would synchronize with the device
    coefficient = torch.cholesky_solve(
        weighted @ ret.flatten(1, 2).unsqueeze(-1).to(x.dtype), factor
    )
    return (feature @ coefficient).view(ret.shape).to(ret.dtype)


def observation_features(obs: Tensor) -> Tensor:
    """Features (N, T, B, F) float64 of observations (N, T, B, *obs) for the baseline.

    Vectors contribute their values, clipped to +-10, and the squares. Images (two axes or more)
    contribute values alone, since planes are often binary and equal their squares. Large
    observations are averaged to keep the regression small: images of more than 256 values over
    4 x 4 equal cells per channel (fewer if there are many channels, about 512 means in all),
    vectors of more than 512 values over 512 equal segments, without squares. uint8 is scaled to
    [0, 1].
    """
    count = math.prod(obs.shape[3:])
    if obs.dim() > 4 and count > 256:
        channels = count // math.prod(obs.shape[-2:])
        side = max(1, min(4, math.isqrt(512 // channels)))
        # One step at a time, so that a uint8 rollout is never converted to float32 as a whole.
        means = [_image_means(x, side) for x in obs.unbind(dim=1)]
        return torch.stack(means, dim=1).double()
    x = as_input(obs, torch.float64).flatten(3).clamp(-10, 10)
    if count > 512:
        return nn.functional.adaptive_avg_pool1d(x.flatten(0, 1), 512).view(*x.shape[:3], -1)
    return x if obs.dim() > 4 else torch.cat((x, x.square()), dim=-1)


def _image_means(x: Tensor, side: int) -> Tensor:
    """Means over side x side cells of each channel of clipped images (N, B, ..., H, W)."""
    kind = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    images = as_input(x, kind).clamp(-10, 10)
    planes = images.reshape(math.prod(x.shape[:2]), -1, *x.shape[-2:])
    cells = (min(side, x.shape[-2]), min(side, x.shape[-1]))
    return nn.functional.adaptive_avg_pool2d(planes, cells).view(*x.shape[:2], -1)


def normalize(adv: Tensor, mask: Tensor) -> Tensor:
    """Normalize each task's valid steps to mean 0 and standard deviation 1; 0 in the padding.

    Constant advantages become 0. Dividing by the largest first keeps squares from under- or
    overflowing.
    """
    count = mask.sum((1, 2), keepdim=True)
    mean = (adv * mask).sum((1, 2), keepdim=True) / count
    centered = torch.where(mask > 0, adv - mean, 0)
    centered = in_units(centered, centered.abs().amax((1, 2)))
    return in_units(centered, (centered.square().sum((1, 2)) / count.flatten()).sqrt())


def in_units(x: Tensor, unit: Tensor) -> Tensor:
    """x (N, ...) divided by the unit of each task, (N,), or of all, (); 0 where the unit is 0."""
    unit = unit.reshape(-1, *[1] * (x.dim() - 1)) if unit.dim() else unit
    return torch.where(unit == 0, 0, x / torch.where(unit == 0, 1, unit))


def same_rewards(rew: Tensor, mask: Tensor) -> Tensor:
    """Whether all episodes of a task got the same reward at each time, (N,) bool.

    Ended episodes count as 0. If rewards are equal, returns depend on the time alone and advantages
    are rounding or fitting errors, which normalization would amplify into a learning signal. With a
    single episode, its rewards are compared over time instead. Rewards count as equal if they
    differ by at most `ROUNDING` times the precision of their dtype, relative to their size.
    """
    single = rew.shape[2] == 1
    rew = torch.where(mask > 0, rew, rew[:, :1] if single else 0)
    over = 1 if single else 2
    spread = rew.amax(over) - rew.amin(over)
    return (spread <= ROUNDING * torch.finfo(rew.dtype).eps * rew.abs().amax(over)).all(1)


def no_baseline(obs: Tensor, ret: Tensor, mask: Tensor) -> Tensor:
    """Zeros (N, T, B)."""
    return torch.zeros_like(ret)


def advantages(
    data: Rollout, gamma: float, gae_lambda: float, baseline: Baseline = linear_baseline
) -> Tensor:
    """Normalized GAE with a baseline fitted to the same rollout, (N, T, B).

    0 in tasks whose rewards carry no signal: see `same_rewards`.
    """
    val = baseline(data.obs, discounted_sum(data.rew, gamma), data.mask)
    adv = normalize(gae(data.rew, val, data.mask, gamma, gae_lambda), data.mask)
    return torch.where(same_rewards(data.rew, data.mask).view(-1, 1, 1), 0, adv)
