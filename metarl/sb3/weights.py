"""Convert the weights of an MLP policy to those of Stable-Baselines3's, and back.

SB3's `MlpPolicy` has the same tanh layers. Its normal distribution is in units of the action, here
it is in units of half the action range. Its MultiDiscrete logits have no padding, and its
MultiBinary actions have one logit instead of two.
"""

from __future__ import annotations

import torch
from gymnasium.spaces import MultiBinary, Space
from torch import Tensor

from metarl.agents.networks.policy import Params, Policy

Layer = tuple[Tensor, Tensor]  # weight (O, I), bias (O,)


def to_sb3(
    policy: Policy, params: Params, action_space: Space, pixel: float = 1.0
) -> dict[str, Tensor]:
    """Weights of the actor, by SB3's names; folding is computed in float64.

    A context and the normalization of observations are folded into the first layer, adapters into
    their layers.

    Args:
        params: without a task axis.
        pixel: factor that metarl applies to observations and SB3 doesn't.
    """
    layers = plain_layers(policy, {k: p.double().cpu() for k, p in params.items()})
    weight, bias = layers[0]
    if policy.obs_mean is not None and policy.obs_scale is not None:
        mean, scale = (x.double().cpu().flatten() for x in (policy.obs_mean, policy.obs_scale))
        weight, bias = weight * scale, bias - weight @ (mean * scale)
    layers[0] = (pixel * weight, bias)
    layers[-1] = tuple(_sb3_rows(policy, x, action_space) for x in layers[-1])  # type: ignore[assignment]
    named: Params = {}
    for i, (weight, bias) in enumerate(layers):
        name = "action_net" if i == len(layers) - 1 else f"mlp_extractor.policy_net.{2 * i}"
        named |= {f"{name}.weight": weight, f"{name}.bias": bias}
    if policy.act_scale is not None:
        named["log_std"] = params["log_std"].double().cpu() + policy.act_scale.cpu().double().log()
    return {k: p.float() for k, p in named.items()}


def plain_layers(policy: Policy, params: Params) -> list[Layer]:
    """The dense layers with context and adapters folded in."""
    layers = []
    for i in range(len(policy.layers)):
        weight, bias = params[f"layers.{i}.weight"], params[f"layers.{i}.bias"]
        if policy.rank:
            weight = weight + params[f"lora_up.{i}"] @ params[f"lora_down.{i}"]
        if i == 0 and policy.context_size:
            bias = bias + params["context_weight"] @ params["context"]
        layers.append((weight, bias))
    return layers


def _sb3_rows(policy: Policy, x: Tensor, action_space: Space) -> Tensor:
    """The last layer's weight or bias, with a row for each parameter of SB3's distribution."""
    if policy.act_scale is not None:
        return _each_row(x, policy.act_scale.cpu().double())
    if isinstance(action_space, MultiBinary):
        return x[1::2] - x[::2]
    if policy.absent is not None:
        return x[~policy.absent.flatten().cpu()]
    return x


def _each_row(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply each row of a weight (O, I) or a bias (O,) by its factor (O,)."""
    return x * (factor if x.dim() == 1 else factor.unsqueeze(1))


def sb3_outputs(policy: Policy, action_space: Space) -> int:
    """Number of units of SB3's last layer for these actions."""
    return len(_sb3_rows(policy, torch.zeros(policy.out, dtype=torch.float64), action_space))


def normalized_input(weights: Params, mean: Tensor, std: Tensor) -> Params:
    """SB3's weights with the normalization of observations folded into the first layer; float64."""
    name = "mlp_extractor.policy_net.0"
    name = name if f"{name}.weight" in weights else "action_net"
    weight = weights[f"{name}.weight"].double() / std.flatten()
    bias = weights[f"{name}.bias"].double() - weight @ mean.flatten()
    return {**weights, f"{name}.weight": weight, f"{name}.bias": bias}


def from_sb3(
    policy: Policy,
    weights: Params,
    action_space: Space,
    bounds: tuple[Tensor, Tensor] | None = None,
    pixel: float = 1.0,
) -> Params:
    """The inverse of `to_sb3`: the weights of the layers; context and adapters are not included.

    Args:
        bounds: low and high of the model's action Box, mapped linearly to that of the family.
    """
    count, params = len(policy.layers), {}
    for i in range(count):
        name = "action_net" if i == count - 1 else f"mlp_extractor.policy_net.{2 * i}"
        for kind in ("weight", "bias"):
            params[f"layers.{i}.{kind}"] = weights[f"{name}.{kind}"].double()
    params["layers.0.weight"] = params["layers.0.weight"] / pixel
    last = f"layers.{count - 1}"
    if bounds is not None:
        low, high = (x.double() for x in bounds)
        params[f"{last}.bias"] = params[f"{last}.bias"] - (low + high) / 2
        params["log_std"] = weights["log_std"].double() - ((high - low) / 2).log()
    for kind in ("weight", "bias"):
        rows = params[f"{last}.{kind}"]
        if bounds is not None:
            rows = _each_row(rows, 2 / (high - low))
        params[f"{last}.{kind}"] = _policy_rows(policy, rows, action_space)
    return {k: p.float() for k, p in params.items()}


def _policy_rows(policy: Policy, x: Tensor, action_space: Space) -> Tensor:
    """The last layer's weight or bias, with a row for each output unit of the policy."""
    if isinstance(action_space, MultiBinary):
        return torch.stack((torch.zeros_like(x), x), dim=1).flatten(0, 1)
    if policy.absent is None:
        return x
    full = x.new_zeros(policy.out, *x.shape[1:])
    full[~policy.absent.flatten().cpu()] = x
    return full
