"""Multi-layer perceptron policies whose weights may carry a task axis."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, Space
from torch import Tensor, nn
from torch.func import functional_call

from agents.distributions import Categorical, Distribution, Gaussian
from envs.errors import UsageError

Params = dict[str, Tensor]


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W^T + b with one W (O, I) for all, or one for each task (N, O, I) and x (N, M, I)."""
    if weight.dim() == 2:
        return nn.functional.linear(x, weight, bias)
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


class MLP(nn.Module):
    """tanh layers, then the mean of a Gaussian or the logits of a Categorical.

    Initialisation: orthogonal weights, gain sqrt(2) in hidden layers and 0.01 in the last, zero
    biases, so that the first policy is near to uniform, or to a centred normal whose standard
    deviation is `exp(log_std_init)` of half the action box.
    """

    act_scale: Tensor | None

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        hidden: tuple[int, ...] = (64, 64),
        log_std_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.obs_ndim = len(_observation_shape(observation_space))
        out, scale = _action_layout(action_space)
        sizes = (math.prod(_observation_shape(observation_space)), *hidden, out)
        # Weights are always passed in; drawing some here would move torch's own random stream.
        self.layers = nn.ModuleList(nn.utils.skip_init(nn.Linear, i, o) for i, o in pairwise(sizes))
        self.register_buffer("act_scale", scale, persistent=False)
        if scale is not None:
            self.log_std = nn.Parameter(torch.full((out,), log_std_init))

    def forward(self, obs: Tensor) -> Distribution:
        """Distribution of the action at obs (N, M, *observation_space.shape)."""
        x = obs.flatten(-self.obs_ndim)
        *hidden, last = self.layers
        for layer in hidden:
            x = affine(x, layer.weight, layer.bias).tanh()  # type: ignore[arg-type]
        x = affine(x, last.weight, last.bias)  # type: ignore[arg-type]
        if self.act_scale is None:
            return Categorical(x)
        # Acting in units of half the box keeps one step size right for boxes of all sizes.
        log_std = self.log_std if self.log_std.dim() == 1 else self.log_std.unsqueeze(1)
        return Gaussian(x * self.act_scale, log_std + self.act_scale.log())

    def initial(self, gen: torch.Generator | None = None) -> Params:
        """Fresh weights, drawn on the CPU so that a seed means the same on every device."""
        params = {k: torch.zeros(p.shape) for k, p in self.named_parameters()}
        for k, p in params.items():
            if k.endswith("weight"):
                last = k == f"layers.{len(self.layers) - 1}.weight"
                nn.init.orthogonal_(p, 0.01 if last else math.sqrt(2.0), generator=gen)
            elif k == "log_std":
                p.copy_(self.log_std.detach())
        return params


def act_dist(policy: nn.Module, params: Params, obs: Tensor) -> Distribution:
    """The policy's distribution at obs (N, M, ...) under weights (...) or (N, ...)."""
    # strict: a weight that is missing would silently fall back to the module's own.
    everything = {**params, **dict(policy.named_buffers())}
    dist: Distribution = functional_call(policy, everything, (obs,), strict=True)
    return dist


def _observation_shape(space: Space) -> tuple[int, ...]:
    if isinstance(space, Box | MultiBinary) and space.shape:
        return space.shape
    raise UsageError(
        f"observation space {space}: MLP takes Box or MultiBinary with at least one axis."
    )


def _action_layout(space: Space) -> tuple[int, Tensor | None]:
    """Size of the last layer, and half the box where there is one."""
    if isinstance(space, Discrete) and space.start == 0:
        return int(space.n), None
    if isinstance(space, Box) and len(space.shape) == 1 and space.is_bounded():
        if (space.low != -space.high).any() or (space.high <= 0).any():
            raise UsageError(f"action space {space}: give a Box that is symmetric about 0.")
        return space.shape[0], torch.as_tensor(space.high, dtype=torch.float32)
    raise UsageError(f"action space {space}: give a Discrete from 0, or a bounded Box, one axis.")
