"""Policies whose weights may carry a task axis: what all of them share, and the perceptron."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from torch import Tensor, nn
from torch.func import functional_call

from metarl.agents.networks.distributions import (
    ABSENT,
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
)
from metarl.envs.core.errors import UsageError

Params = dict[str, Tensor]
Layer = TypeVar("Layer", bound=nn.Module)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W^T + b with one W (O, I) for all, or one for each task (N, O, I) and x (N, M, I)."""
    if weight.dim() == 2:
        return nn.functional.linear(x, weight, bias)
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T with one W (O, I) for all, or one for each task (N, O, I) and x (N, M, I)."""
    return x @ weight.mT


class Policy(nn.Module):
    """From the numbers of the last layer to a distribution of actions; and the first weights.

    A subclass calls `add_layers` and ends in `action_distribution`, whose last layer has `out`
    units.

    Initialisation: orthogonal weights, gain sqrt(2) in hidden layers and 0.01 in the last (with a
    context 1: it acts through that layer alone, and from nearly nothing never learns to), zero
    biases, so that the first policy is near to uniform, or to a centred normal whose standard
    deviation is `exp(log_std_init)` of half the action box. Context, and the upper halves of
    adapters, are 0: without adaptation they change nothing.
    """

    act_scale: Tensor | None  # (A,) half the action box
    act_log_scale: Tensor | None  # (A,)
    absent: Tensor | None  # (A, most) where an action has fewer choices than the others
    obs_mean: Tensor | None  # (*obs) where observations are normalised
    obs_scale: Tensor | None  # (*obs)
    rew_scale: Tensor | None  # () where rewards are that a memory reads
    layers: nn.ModuleList

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        log_std_init: float = 0.0,
        context: int = 0,
        rank: int = 0,
    ) -> None:
        super().__init__()
        self.spaces = observation_space, action_space
        self.obs_ndim = len(observation_shape(observation_space))
        scale = absent = None
        if isinstance(action_space, Discrete) and action_space.start == 0:
            self.out = int(action_space.n)
        elif counts := _choices(action_space):
            absent = torch.arange(max(counts)) >= torch.tensor(counts).unsqueeze(-1)
            self.out = absent.numel()
        else:
            scale = _half_box(action_space)
            self.out = len(scale)
            self.log_std = nn.Parameter(torch.full((self.out,), log_std_init))
        self.register_buffer("act_scale", scale, persistent=False)
        log_scale = None if scale is None else scale.log()
        self.register_buffer("act_log_scale", log_scale, persistent=False)
        self.register_buffer("absent", absent, persistent=False)
        for name in ("obs_mean", "obs_scale", "rew_scale"):  # see agents/networks/running_stats.py
            self.register_buffer(name, None, persistent=False)
        self.context_size, self.rank = context, rank

    def add_layers(self, sizes: tuple[int, ...]) -> None:
        """Dense layers between these sizes, with a context and adapters if there are to be any."""
        self.layers = dense(sizes)
        if self.context_size:
            self.context = nn.Parameter(torch.empty(self.context_size))
            self.context_weight = nn.Parameter(torch.empty(sizes[1], self.context_size))
        if self.rank:
            pairs = list(pairwise(sizes))
            self.lora_down = nn.ParameterList(torch.empty(self.rank, i) for i, _ in pairs)
            self.lora_up = nn.ParameterList(torch.empty(o, self.rank) for _, o in pairs)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.layers[0].weight.dtype  # type: ignore[return-value]

    @property
    def last_layer(self) -> str:
        """The beginning of the names of the last layer's weights."""
        return f"layers.{len(self.layers) - 1}."

    def preprocess(self, obs: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Observations as the first layer takes them: numbers, normalised if they are to be."""
        x = as_input(obs, dtype or self.dtype)
        if self.obs_mean is None or self.obs_scale is None:
            return x
        return (x - self.obs_mean) * self.obs_scale

    def action_distribution(self, x: Tensor) -> Distribution:
        """Distribution of the action from the input (N, M, I) of the dense layers.

        The context is as further inputs, the same at every step, to the first of them. An adapter
        adds the product of two thin matrices to the weight of its layer.
        Source: context, Zintgraf et al. 2019 (arXiv:1810.03642), section 3.3; adapters, Hu et al.
            2021 (arXiv:2106.09685), section 4.1.
        """
        for i, layer in enumerate(self.layers):
            y = affine(x, layer.weight, layer.bias)  # type: ignore[arg-type]
            if self.rank:
                y = y + linear(linear(x, self.lora_down[i]), self.lora_up[i])
            if i == 0 and self.context_size:
                y = y + linear(self.context.unsqueeze(-2), self.context_weight)
            x = y if i == len(self.layers) - 1 else y.tanh()
        return self.head(x)

    def head(self, x: Tensor) -> Distribution:
        """Distribution of the action from the last layer's output (N, M, out)."""
        if self.absent is not None:
            return MultiCategorical(
                x.unflatten(-1, self.absent.shape).masked_fill(self.absent, ABSENT)
            )
        if self.act_scale is None or self.act_log_scale is None:
            return Categorical(x)
        # Acting in units of half the box keeps one step size right for boxes of all sizes.
        log_std = self.log_std if self.log_std.dim() == 1 else self.log_std.unsqueeze(1)
        return Gaussian(x * self.act_scale, log_std + self.act_log_scale)

    def initial(self, gen: torch.Generator | None = None) -> Params:
        """Fresh weights, drawn on the CPU so that a seed means the same on every device."""
        params = {k: torch.zeros(p.shape) for k, p in self.named_parameters()}
        small = 1.0 if self.context_size else 0.01
        for k, p in params.items():
            if k.endswith("weight"):
                last = k == f"{self.last_layer}weight"
                nn.init.orthogonal_(p, small if last else math.sqrt(2.0), generator=gen)
            elif k.startswith("lora_down"):
                nn.init.orthogonal_(p, generator=gen)
            elif k == "log_std":
                p.copy_(self.log_std.detach())
        return params


class MLP(Policy):
    """tanh layers over the flattened observation."""

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        hidden: tuple[int, ...] = (64, 64),
        log_std_init: float = 0.0,
        context: int = 0,
        rank: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space, log_std_init, context, rank)
        self.add_layers((math.prod(observation_shape(observation_space)), *hidden, self.out))

    def forward(self, obs: Tensor) -> Distribution:
        """Distribution of the action at obs (N, M, *observation_space.shape)."""
        return self.action_distribution(self.preprocess(obs).flatten(-self.obs_ndim))


def act_dist(policy: nn.Module, params: Params, obs: Tensor) -> Distribution:
    """The policy's distribution at obs (N, M, ...) under weights (...) or (N, ...)."""
    # strict: a weight that is missing would silently fall back to the module's own.
    everything = {**params, **dict(policy.named_buffers())}
    dist: Distribution = functional_call(policy, everything, (obs,), strict=True)
    return dist


def blank(layer: Callable[..., Layer], *sizes: int) -> Layer:
    """A layer whose weights are not drawn; within `torch.device("meta")` they take no memory.

    Weights are always passed in; drawing some here would move torch's own random stream.
    """
    made: Layer = nn.utils.skip_init(layer, *sizes, device=torch.get_default_device())
    return made


def dense(sizes: tuple[int, ...]) -> nn.ModuleList:
    """Layers between these sizes."""
    return nn.ModuleList(blank(nn.Linear, i, o) for i, o in pairwise(sizes))


def as_input(obs: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers of the weights' type; bytes, which rollouts keep to save memory, become 0 to 1."""
    x = obs.to(dtype)
    return x / 255 if obs.dtype == torch.uint8 else x


def observation_shape(space: Space) -> tuple[int, ...]:
    """Shape of an observation that policies can take."""
    if isinstance(space, Box | MultiBinary) and space.shape:
        return space.shape
    raise UsageError(
        f"observation space {space}: give a Box or MultiBinary with at least one axis."
    )


def _choices(space: Space) -> list[int] | None:
    """How many choices each of several discrete actions has, where the space is of such."""
    if isinstance(space, MultiBinary) and len(space.shape) == 1:
        return [2] * space.shape[0]
    if isinstance(space, MultiDiscrete) and len(space.shape) == 1 and not space.start.any():
        return [int(n) for n in space.nvec]
    return None


def _half_box(space: Space) -> Tensor:
    if isinstance(space, Box) and len(space.shape) == 1 and space.is_bounded():
        if (space.low != -space.high).any() or (space.high <= 0).any():
            raise UsageError(f"action space {space}: give a Box that is symmetric about 0.")
        return torch.as_tensor(space.high, dtype=torch.float32)
    raise UsageError(
        f"action space {space}: give a Discrete from 0, or with one axis a bounded Box, "
        "a MultiDiscrete from 0 or a MultiBinary."
    )
