"""Where meta-training begins: with new weights, or from a model of Stable-Baselines3."""

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
    """A new agent's; its perceptron starts from `cfg.init_from` where that is given.

    Raises:
        UsageError: as `new_agent`; or a model of another kind, network or space.
    """
    agent: Any = new_agent(cfg, family, device)
    if not cfg.init_from:
        return TrainState(agent)
    said = f"--init-from {cfg.init_from}"
    if not isinstance(agent.policy, MLP):
        raise UsageError(f"{said}: an MlpPolicy can't start a CNN: give --network mlp.")
    model = read_model(cfg.init_from)
    check_spaces(said, model, family)
    check_network(said, model, agent.policy, family)
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
            f"{said}: {wrong[0]} is not finite in units of {family.name}: give another model."
        )
    params = {**agent.params, **{k: p.to(device) for k, p in new.items()}}
    return TrainState(
        normalizing(dataclasses.replace(agent, params=params), running_stats),
        running_stats=running_stats,
    )


def check_spaces(said: str, model: Model, family: Family) -> None:
    """Raise UsageError, which names both, unless actions and observations are alike."""
    space, acts = family.observation_space, family.action_space
    if model.action_kind != type(acts).__name__:
        raise UsageError(
            f"{said}: its actions are {model.action_kind}, {family.name} takes {acts}: give a "
            "model of the same actions."
        )
    theirs, ours = model.observation_shape, tuple(space.shape or ())
    same = theirs is None or theirs == ours
    if not same and (math.prod(theirs) != math.prod(ours) or min(len(theirs), len(ours)) > 1):  # type: ignore[arg-type]
        raise UsageError(
            f"{said}: it sees observations of shape {theirs}, {family.name} gives {ours}: give a "
            "model of the same observations."
        )


def check_network(said: str, model: Model, policy: MLP, family: Family) -> None:
    """Raise UsageError, which names both, unless the layers are of the same sizes."""
    inputs = math.prod(family.observation_space.shape or ())
    hidden = tuple(int(layer.weight.shape[0]) for layer in policy.layers)[:-1]  # type: ignore[index]
    ours = (inputs, *hidden, sb3_outputs(policy, family.action_space))
    theirs = model.sizes
    if theirs == ours:
        return
    what = "a model of the same spaces"
    if (theirs[0], theirs[-1]) == (ours[0], ours[-1]):
        what = f"--hidden {' '.join(map(str, theirs[1:-1]))}"
    raise UsageError(
        f"{said}: its network is {_shown(theirs)} (inputs, hidden layers, outputs), this one would "
        f"be {_shown(ours)}: give {what}."
    )


def _shown(sizes: tuple[int, ...]) -> str:
    return "-".join(map(str, sizes))


def _check_normalizer(said: str, normalizer: Normalizer, family: Family) -> None:
    space = family.observation_space
    theirs, ours = tuple(normalizer.mean.shape), tuple(space.shape or ())
    if theirs != ours or space.dtype == np.uint8:
        raise UsageError(
            f"{said}: it normalises observations of shape {theirs}, {family.name} gives {ours} "
            f"{space.dtype}: give the one that the model was trained behind."
        )


def _moments(normalizer: Normalizer, device: torch.device | str) -> Moments:
    """SB3's running moments as ours, with its epsilon in place of our own."""
    var = normalizer.var + normalizer.epsilon - EPSILON
    return Moments(*(x.to(device) for x in (normalizer.steps, normalizer.mean, var)))
