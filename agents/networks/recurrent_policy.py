"""A recurrent policy, which maps the history of a trial to an action distribution and a value."""

from __future__ import annotations

import math

import torch
from gymnasium.spaces import Space
from torch import Tensor, nn
from torch.func import functional_call

from metarl.agents.networks.distributions import Distribution
from metarl.agents.networks.policy import Params, Policy, affine, blank, dense, observation_shape
from metarl.agents.networks.recurrent_cells import CELLS, Cell, CellKind


class MemoryPolicy(Policy):
    """Recurrent cell with an action head and a value head.

    Its input is the observation, the previous action and reward, and whether an episode starts.

    Source: RL², Duan et al. 2016 (arXiv:1611.02779), section 2.2; Wang et al. 2016
        (arXiv:1611.05763).
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        cell: CellKind = "gru",
        units: int = 64,
        log_std_init: float = 0.0,
    ) -> None:
        super().__init__(observation_space, action_space, log_std_init)
        inputs = math.prod(observation_shape(observation_space)) + self.out + 2
        self.cell: Cell = CELLS[cell](inputs, units)
        self.layers = dense((units, self.out))
        self.critic = blank(nn.Linear, units, 1)

    def numbers(self, act: Tensor) -> Tensor:
        """Actions as network input (..., out): one-hot, or divided by half the box."""
        if self.act_scale is not None:
            return act / self.act_scale
        most = self.out if self.absent is None else self.absent.shape[1]
        # torch's one_hot synchronizes with the device and rejects values found in padding.
        hot = act.unsqueeze(-1) == torch.arange(most, device=act.device)
        return hot if self.absent is None else hot.flatten(-2)

    def inputs(self, obs: Tensor, act: Tensor, rew: Tensor, first: Tensor) -> Tensor:
        """Concatenated network input (..., inputs).

        Args:
            obs: (..., *obs).
            act: (..., out) previous action, as `numbers` returns it.
            rew: (...) previous reward.
            first: (...) 1.0 at the first step of an episode.
        """
        flat = self.preprocess(obs, rew.dtype).flatten(-self.obs_ndim)
        rew = self.scaled(rew)
        return torch.cat((flat, act, rew.unsqueeze(-1), first.unsqueeze(-1)), dim=-1)

    def scaled(self, rew: Tensor) -> Tensor:
        """Rewards times `rew_scale`, if they are normalized."""
        return rew if self.rew_scale is None else rew * self.rew_scale

    def forward(
        self, x: Tensor, state: Tensor, mask: Tensor | None = None
    ) -> tuple[Distribution, Tensor, Tensor]:
        """Action distribution, value and next state.

        Args:
            x: (T, M, inputs); without `mask` a single step, (N, B, inputs).
            state: (M, *state_shape), or (N, B, *state_shape).
            mask: (T, M) 1.0 for valid steps, then 0.0 for padding.
        """
        if mask is None:
            y, new = self.cell.step(x.flatten(0, 1), state.flatten(0, 1))
            y, new = y.unflatten(0, x.shape[:2]), new.view(state.shape)
        else:
            y, new = self.cell.sequence(x, state, mask)
        (last,) = self.layers
        value = affine(y, self.critic.weight, self.critic.bias).squeeze(-1)
        return self.head(affine(y, last.weight, last.bias)), value, new  # type: ignore[arg-type]

    def initial(self, gen: torch.Generator | None = None) -> Params:
        """Initial weights; the critic and each square block of the cell are orthogonal, gain 1."""
        params = super().initial(gen)
        for k, p in params.items():
            if k.endswith("weight") and not k.startswith("layers."):
                for block in p.split(self.cell.block) if k.startswith("cell.") else [p]:
                    nn.init.orthogonal_(block, 1.0, generator=gen)
        return params


def recurrent_forward(
    policy: MemoryPolicy, params: Params, x: Tensor, state: Tensor, mask: Tensor | None = None
) -> tuple[Distribution, Tensor, Tensor]:
    """Call `MemoryPolicy.forward` with these weights."""
    everything = {**params, **dict(policy.named_buffers())}
    result: tuple[Distribution, Tensor, Tensor] = functional_call(
        policy, everything, (x, state, mask), strict=True
    )
    return result
