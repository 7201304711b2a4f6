"""Returns, advantages and the baseline that is refitted for every task and inner step.

One convention throughout: returns are finite-horizon. Value is 0 after an episode's last step,
whether the game ended it or its clock; the baseline sees the time, so that this is consistent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agents.rollout import Rollout


def discounted_sum(x: Tensor, discount: float) -> Tensor:
    """sum_{l >= 0} discount^l x[:, t + l], (N, T, B)."""
    total, out = torch.zeros_like(x[:, 0]), []
    for step in reversed(x.unbind(dim=1)):
        total = step + discount * total
        out.append(total)
    return torch.stack(out[::-1], dim=1)


def gae(rew: Tensor, val: Tensor, alive: Tensor, gamma: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimate, (N, T, B); 0 in the padding.

    Args:
        val: (N, T, B) V(s_t) of the baseline; what it holds in the padding doesn't matter.
    Source: Schulman et al. 2016 (arXiv:1506.02438), section 3.
    """
    val = torch.where(alive > 0, val, 0)
    after = torch.cat((val[:, 1:], torch.zeros_like(val[:, :1])), dim=1)
    return discounted_sum(torch.where(alive > 0, rew + gamma * after - val, 0), gamma * gae_lambda)


def linear_baseline(obs: Tensor, ret: Tensor, alive: Tensor, ridge: float = 1e-5) -> Tensor:
    """Values (N, T, B) of the least-squares fit of `ret`, one for each task, in closed form.

    Features: the observation, clipped to +-10, and its square (image planes are bits, their own
    squares); t, t^2, t^3 in units of 100 steps; 1. Normal equations in float64, divided by the
    number of living steps so that `ridge` means the same for long and short rollouts.
    Source: Duan et al. 2016 (arXiv:1604.06778), section 4.
    """
    n, steps, episodes = ret.shape
    x = obs.flatten(3).clamp(-10, 10).double()
    t = torch.arange(steps, device=obs.device, dtype=x.dtype).view(1, steps, 1, 1) / 100
    clock = torch.cat((t, t**2, t**3, torch.ones_like(t)), dim=-1).expand(n, -1, episodes, -1)
    square = () if obs.dim() > 4 else (x.square(),)
    feature = torch.cat((x, *square, clock), dim=-1).flatten(1, 2)  # (N, T * B, F)
    weight = (alive / alive.sum((1, 2), keepdim=True)).flatten(1, 2).unsqueeze(-1).to(x.dtype)
    weighted = (feature * weight).mT
    gram = weighted @ feature + ridge * torch.eye(feature.shape[-1], dtype=x.dtype, device=x.device)
    factor, _ = torch.linalg.cholesky_ex(gram)  # the plain call would wait for the device
    coefficient = torch.cholesky_solve(
        weighted @ ret.flatten(1, 2).unsqueeze(-1).to(x.dtype), factor
    )
    return (feature @ coefficient).view(ret.shape).to(ret.dtype)


def normalise(adv: Tensor, alive: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over each task's living steps; 0 in the padding."""
    count = alive.sum((1, 2), keepdim=True)
    centred = (adv - (adv * alive).sum((1, 2), keepdim=True) / count) * alive
    std = (centred.square().sum((1, 2), keepdim=True) / count).sqrt()
    return centred / (std + 1e-8)


def advantages(data: Rollout, gamma: float, gae_lambda: float) -> Tensor:
    """Normalised GAE over a baseline fitted to this very rollout, (N, T, B)."""
    val = linear_baseline(data.obs, discounted_sum(data.rew, gamma), data.alive)
    return normalise(gae(data.rew, val, data.alive, gamma, gae_lambda), data.alive)
