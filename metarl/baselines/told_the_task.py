"""A task-conditioned policy, whose return is an upper reference for adaptation.

Task parameters modulate the policy (FiLM): a small network maps them to a scale and a shift of each
hidden unit. As additional inputs, they would only enter the first layer additively, but the best
action often depends on products of parameters and observations.

Source: Perez et al. 2018 (arXiv:1709.07871), section 2.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvWrapper
from torch import Tensor, nn

from metarl.envs.core.parameters import Parameter, Range

Array = np.ndarray[Any, Any]
FEW = 64  # a `Choice` with at most this many values is one-hot encoded
EMBEDDING = 32  # hidden units between parameters and modulation


def task_numbers(known: Mapping[str, Parameter], task: Any) -> Array:
    """Encode N tasks as numbers of order 1, (N, P) float32.

    A `Range` is scaled so that training's ends are -1 and 1, in the logarithm if it is drawn
    log-uniformly. A `Choice` without labels is scaled in the same way. A `Choice` with labels, or
    with 3 to 64 values, is one-hot encoded.
    """
    columns: list[Array] = []
    for name, parameter in known.items():
        value = getattr(task, name).reshape(-1).double().cpu().numpy()
        if isinstance(parameter, Range):
            columns.append(_unit(value, parameter.low, parameter.high, parameter.log))
            continue
        choices = (*parameter.values, *parameter.extrapolation)
        if not parameter.labels:
            columns.append(_unit(value, min(parameter.values), max(parameter.values)))
        if parameter.labels or 2 < len(choices) <= FEW:
            columns += [np.isclose(value, choice, rtol=1e-6, atol=1e-9) for choice in choices]
    return np.stack(columns, axis=1).astype(np.float32)


def _unit(value: Array, low: float, high: float, log: bool = False) -> Array:
    """Map [low, high] to [-1, 1]; 0 if there is a single value."""
    if log:
        value, low, high = np.log(value), math.log(low), math.log(high)
    half = (high - low) / 2
    return (value - (low + high) / 2) / half if half > 0 else np.zeros_like(value)


class FlatView(VecEnvWrapper):
    """Flat float32 observations, with uint8 divided by 255, as in metarl's own policies.

    Args:
        told: (environments, P) numbers appended to each observation, none by default.
    """

    def __init__(self, env: VecEnv, told: Array | None = None) -> None:
        shape: Any = env.observation_space.shape
        self.told = np.zeros((env.num_envs, 0), np.float32) if told is None else told
        size = math.prod(shape) + self.told.shape[1]
        super().__init__(env, Box(-np.inf, np.inf, (size,), np.float32))

    def reset(self) -> Array:
        return self._flat(self.venv.reset(), self.told)

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        obs, rew, over, infos = self.venv.step_wait()
        for i in np.flatnonzero(over):
            last = infos[i]["terminal_observation"]
            infos[i]["terminal_observation"] = self._flat(last[None], self.told[i : i + 1])[0]
        return self._flat(obs, self.told), rew, over, infos

    def _flat(self, obs: Any, told: Array) -> Array:
        unit = 255.0 if obs.dtype == np.uint8 else 1.0
        return np.concatenate((obs.reshape(len(obs), -1) / np.float32(unit), told), axis=1)


class ModulatedPolicy(ActorCriticPolicy):
    """SB3's MlpPolicy with hidden layers modulated by the last `told` inputs."""

    def __init__(self, *args: Any, told: int, **kwargs: Any) -> None:
        self.told = told
        super().__init__(*args, **kwargs)

    def _build_mlp_extractor(self) -> None:
        sizes: Any = self.net_arch
        self.mlp_extractor = Modulated(self.features_dim, self.told, sizes)  # type: ignore[assignment]


class Modulated(nn.Module):
    """Separate hidden tanh layers of actor and critic, both modulated by the task.

    Args:
        inputs: size of the input, of which the last `told` numbers are the task's.
    """

    def __init__(self, inputs: int, told: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.latent_dim_pi = self.latent_dim_vf = sizes[-1] if sizes else inputs - told
        net = partial(_Network, inputs - told, told, sizes)
        self.policy_net, self.value_net = net(), net()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.policy_net(x), self.value_net(x)

    def forward_actor(self, x: Tensor) -> Tensor:
        latent: Tensor = self.policy_net(x)
        return latent

    def forward_critic(self, x: Tensor) -> Tensor:
        latent: Tensor = self.value_net(x)
        return latent


class _Network(nn.Module):
    def __init__(self, observed: int, told: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.observed, self.sizes = observed, list(sizes)
        widths = [observed, *sizes]
        self.layers = nn.ModuleList(map(nn.Linear, widths, widths[1:]))
        self.modulation = nn.Sequential(
            nn.Linear(told, EMBEDDING), nn.Tanh(), nn.Linear(EMBEDDING, 2 * sum(sizes))
        )

    def forward(self, x: Tensor) -> Tensor:
        x, task = x[:, : self.observed], x[:, self.observed :]
        scales, shifts = self.modulation(task).chunk(2, dim=1)
        for layer, scale, shift in zip(
            self.layers, scales.split(self.sizes, 1), shifts.split(self.sizes, 1), strict=True
        ):
            x = torch.tanh((1 + scale) * layer(x) + shift)
        return x
