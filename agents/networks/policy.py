"""Policies whose weights may have a task axis: the base class and the perceptron."""

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
    """x W^T + b with weight (O, I) shared by all tasks, or (N, O, I) and x (N, M, I)."""
    if weight.dim() == 2:
        return nn.functional.linear(x, weight, bias)
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T with weight (O, I) shared by all tasks, or (N, O, I) and x (N, M, I)."""
    return x @ weight.mT


class Policy(nn.Module):
    """Action head and weight initialization shared by all policies.

    A subclass calls `add_layers`, and its `forward` returns `action_distribution(x)`, whose last
    layer has `out` units.

    Weights are orthogonal, with gain sqrt(2) in hidden layers and 0.01 in the last; biases are 0.
    The initial policy is thus close to uniform, or to a normal with mean 0 whose standard deviation
    is `exp(log_std_init)` times half the action box. With a context the last gain is 1: the context
    acts through that layer alone and never learns to if its effect starts near 0. The context and
    the up-projections of LoRA adapters start at 0 and have no effect before adaptation.
    """

    act_scale: Tensor | None  # (A,) half the action box
    act_log_scale: Tensor | None  # (A,)
    absent: Tensor | None  # (A, most) bool, True where an action lacks a choice
    obs_mean: Tensor | None  # (*obs) if observations are normalized
    obs_scale: Tensor | None  # (*obs) factor; likewise
    rew_scale: Tensor | None  # () factor, if the policy is recurrent and rewards are normalized
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
        """Create dense layers of these sizes, and the context and adapters if configured."""
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
        """Dtype of the weights."""
        return self.layers[0].weight.dtype  # type: ignore[return-value]

    @property
    def last_layer(self) -> str:
        """Prefix of the names of the last layer's weights."""
        return f"layers.{len(self.layers) - 1}."

    def preprocess(self, obs: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Convert observations to floats for the first layer, normalized if statistics are set."""
        x = as_input(obs, dtype or self.dtype)
        if self.obs_mean is None or self.obs_scale is None:
            return x
        return (x - self.obs_mean) * self.obs_scale

    def action_distribution(self, x: Tensor) -> Distribution:
        """Action distribution from the input (N, M, I) of the dense layers.

        The context is concatenated to the input of the first layer. An adapter adds a low-rank
        product to the weight of its layer.

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
        """Action distribution from the output (N, M, out) of the last layer."""
        if self.absent is not None:
            return MultiCategorical(
                x.unflatten(-1, self.absent.shape).masked_fill(self.absent, ABSENT)
            )
        if self.act_scale is None or self.act_log_scale is None:
            return Categorical(x)
        # Scaling by half the box makes one step size suit boxes of any size.
        log_std = self.log_std if self.log_std.dim() == 1 else self.log_std.unsqueeze(1)
        return Gaussian(x * self.act_scale, log_std + self.act_log_scale)

    def initial(self, gen: torch.Generator | None = None) -> Params:
        """Initial weights, drawn on the CPU so that a seed gives the same ones on every device."""
        params = {k: torch.zeros(p.shape) for k, p in self.named_parameters()}
        last_gain = 1.0 if self.context_size else 0.01
        for k, p in params.items():
            if k.endswith("weight"):
                last = k == f"{self.last_layer}weight"
                nn.init.orthogonal_(p, last_gain if last else math.sqrt(2.0), generator=gen)
            elif k.startswith("lora_down"):
                nn.init.orthogonal_(p, generator=gen)
            elif k == "log_std":
                p.copy_(self.log_std.detach())
        return params


class MLP(Policy):
    """Perceptron with tanh over the flattened observation."""

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
        """Action distribution at obs (N, M, *observation_space.shape)."""
        return self.action_distribution(self.preprocess(obs).flatten(-self.obs_ndim))


def act_dist(policy: nn.Module, params: Params, obs: Tensor) -> Distribution:
    """The policy's action distribution at obs (N, M, ...) under weights (...) or (N, ...)."""
    # Without strict, a missing weight would silently fall back to the module's parameter.
    everything = {**params, **dict(policy.named_buffers())}
    dist: Distribution = functional_call(policy, everything, (obs,), strict=True)
    return dist


def blank(layer: Callable[..., Layer], *sizes: int) -> Layer:
    """A layer with uninitialized weights; inside `torch.device("meta")` they take no memory.

    Weights are always passed in; initializing them here would advance torch's global generator.
    """
    made: Layer = nn.utils.skip_init(layer, *sizes, device=torch.get_default_device())
    return made


def dense(sizes: tuple[int, ...]) -> nn.ModuleList:
    """Linear layers of these sizes, with uninitialized weights."""
    return nn.ModuleList(blank(nn.Linear, i, o) for i, o in pairwise(sizes))


def as_input(obs: Tensor, dtype: torch.dtype) -> Tensor:
    """Observations as `dtype`; uint8, which rollouts keep to save memory, is scaled to [0, 1]."""
    x = obs.to(dtype)
    return x / 255 if obs.dtype == torch.uint8 else x


def observation_shape(space: Space) -> tuple[int, ...]:
    """Shape of the space.

    Raises:
        UsageError: policies can't process the space.
    """
    if isinstance(space, Box | MultiBinary) and space.shape:
        return space.shape
    raise UsageError(
        f"observation space {space} is not supported: give a Box or MultiBinary with at least one "
        "axis."
    )


def _choices(space: Space) -> list[int] | None:
    """Number of choices of each component of a multi-discrete space; None for other spaces."""
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
        f"action space {space} is not supported: give a Discrete that starts at 0, or a "
        "one-dimensional bounded Box, MultiDiscrete that starts at 0, or MultiBinary."
    )
