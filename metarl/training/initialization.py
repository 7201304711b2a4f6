"""Initial training state: new weights, or a warm start from a Stable-Baselines3 model."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch

from metarl.agents.networks.policy import MLP
from metarl.agents.networks.running_stats import EPSILON, Moments
from metarl.config.settings import TrainConfig
from metarl.envs import Family, UsageError
from metarl.outer.train_state import RunningStats, TrainState, normalizing
from metarl.sb3.archive import Model, Normalizer, read_model, read_normalizer
from metarl.sb3.interop import pixel
from metarl.sb3.weights import from_sb3, normalized_input, sb3_outputs
from metarl.training.new_agent import new_agent


def first_state(cfg: TrainConfig, family: Family, device: torch.device | str = "cpu") -> TrainState:
    """The state of a new agent, whose MLP starts from `cfg.init_from` if given.

    Raises:
        UsageError: as `new_agent`; or the model has another kind of policy, network or space.
    """
    agent: Any = new_agent(cfg, family, device)
    if not cfg.init_from:
        return TrainState(agent)
    flag = f"--init-from {cfg.init_from}"
    if not isinstance(agent.policy, MLP):
        raise UsageError(f"{flag}: an MlpPolicy can't start a CNN: give --network mlp.")
    model = read_model(cfg.init_from)
    check_spaces(flag, model, family)
    check_network(flag, model, agent.policy, family)
    weights, running_stats = model.weights, RunningStats()
    if cfg.init_normalize:
        normalizer = read_normalizer(cfg.init_normalize)
        _check_normalizer(f"--init-normalize {cfg.init_normalize}", normalizer, family)
        if cfg.normalize_obs:
            running_stats = RunningStats(obs=_moments(normalizer, device))
        else:
            std = (normalizer.var + normalizer.epsilon).sqrt()
            weights = normalized_input(weights, normalizer.mean, std)
    bounds = (model.low, model.high) if model.low is not None and model.high is not None else None
    new = from_sb3(agent.policy, weights, family.action_space, bounds, pixel(family))
    if wrong := [k for k, p in new.items() if not p.isfinite().all()]:
        raise UsageError(
            f"{flag}: {wrong[0]} is not finite in units of {family.name}: give another model."
        )
    params = {**agent.params, **{k: p.to(device) for k, p in new.items()}}
    return TrainState(
        normalizing(dataclasses.replace(agent, params=params), running_stats),
        running_stats=running_stats,
    )


def check_spaces(flag: str, model: Model, family: Family) -> None:
    """Raise UsageError if the model's actions or observations differ from the family's."""
    space, acts = family.observation_space, family.action_space
    if model.action_kind != type(acts).__name__:
        raise UsageError(
            f"{flag}: its actions are {model.action_kind}, {family.name} takes {acts}: give a "
            "model with the same actions."
        )
    have, need = model.observation_shape, tuple(space.shape or ())
    same = have is None or have == need
    if not same and (math.prod(have) != math.prod(need) or min(len(have), len(need)) > 1):  # type: ignore[arg-type]
        raise UsageError(
            f"{flag}: it takes observations of shape {have}, {family.name} gives {need}: give a "
            "model for the same observations."
        )


def check_network(flag: str, model: Model, policy: MLP, family: Family) -> None:
    """Raise UsageError if the model's layer sizes differ from the policy's."""
    inputs = math.prod(family.observation_space.shape or ())
    hidden = tuple(int(layer.weight.shape[0]) for layer in policy.layers)[:-1]  # type: ignore[index]
    need = (inputs, *hidden, sb3_outputs(policy, family.action_space))
    have = model.sizes
    if have == need:
        return
    advice = "a model with the same spaces"
    if (have[0], have[-1]) == (need[0], need[-1]):
        advice = f"--hidden {' '.join(map(str, have[1:-1]))}"
    raise UsageError(
        f"{flag}: its network is {_shown(have)} (inputs, hidden layers, outputs), this one would "
        f"be {_shown(need)}: give {advice}."
    )


def _shown(sizes: tuple[int, ...]) -> str:
    return "-".join(map(str, sizes))


def _check_normalizer(flag: str, normalizer: Normalizer, family: Family) -> None:
    space = family.observation_space
    have, need = tuple(normalizer.mean.shape), tuple(space.shape or ())
    if have != need or space.dtype == np.uint8:
        raise UsageError(
            f"{flag}: it normalizes observations of shape {have}, {family.name} gives {need} "
            f"{space.dtype}: give the one that the model was trained with."
        )


def _moments(normalizer: Normalizer, device: torch.device | str) -> Moments:
    """Convert SB3's running moments, accounting for its different epsilon."""
    var = normalizer.var + normalizer.epsilon - EPSILON
    return Moments(*(x.to(device) for x in (normalizer.steps, normalizer.mean, var)))
