"""Stable-Baselines3's PPO as the plain alternative: trained over variants, and adapted to one.

Each call makes a model anew and hands the weights and the optimiser on, since a model of SB3 keeps
the number of environments, steps and its learning rate for life.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from agents.streams import stream
from envs import Family, sample_tasks
from metarl.sb3 import to_vec_env
from metarl.statistics import Array

if TYPE_CHECKING:
    from stable_baselines3 import PPO

MINIBATCHES = 4  # at most, all of one size


@dataclass(frozen=True)
class PPOSettings:
    """What PPO shares with the agent that it is compared with, and its own step size."""

    gamma: float
    gae_lambda: float
    hidden: tuple[int, ...]
    lr: float
    epochs: int = 10
    seed: int = 0


def new_ppo(cfg: PPOSettings, env: Any, n_steps: int, like: PPO | None = None) -> PPO:
    """A model for `n_steps` steps of each environment before an update of several epochs.

    Args:
        like: goes on with the weights and the optimiser of this model.
    """
    from stable_baselines3 import PPO

    batch = n_steps * env.num_envs
    model = PPO(
        "MlpPolicy",
        env,
        learning_rate=cfg.lr,
        n_steps=n_steps,
        batch_size=batch // max(d for d in range(1, MINIBATCHES + 1) if batch % d == 0),
        n_epochs=cfg.epochs,
        gamma=cfg.gamma,
        gae_lambda=cfg.gae_lambda,
        policy_kwargs={"net_arch": list(cfg.hidden), "activation_fn": nn.Tanh},
        seed=cfg.seed,
        device="cpu",
    )
    if like is not None:
        # A copy, since torch's optimisers go on with the very moments that they are given.
        model.set_parameters(copy.deepcopy(like.get_parameters()), device="cpu")  # type: ignore[arg-type]
    return model


def load_ppo(path: Path) -> PPO:
    """A model that `train_over_variants` made and metarl saved."""
    from stable_baselines3 import PPO

    return PPO.load(path, device="cpu")


def train_over_variants(
    cfg: PPOSettings, family: Family, env_steps: int, variants: int = 100, rollouts: int = 4
) -> PPO:
    """One policy for all variants of the training split: domain randomisation.

    New variants are drawn every `rollouts` rollouts; the step size falls to nothing.
    Source: as the baseline to beat, Zhao et al. 2022 (arXiv:2206.03271).
    """

    def env(i: int) -> Any:
        gen = stream(cfg.seed, "multi-task variants", i)
        return to_vec_env(family, sample_tasks(family, variants, gen), unit_actions=True)

    return _train(cfg, env, family.horizon, rollouts, env_steps)


def train_on_variant(
    cfg: PPOSettings, family: Family, task: Any, episodes: int, env_steps: int
) -> float:
    """Mean return over `episodes` on one variant, fields (1, 1), of a policy trained for it."""
    env = to_vec_env(family, task, episodes, unit_actions=True)
    model = _train(cfg, lambda i: env, family.horizon, 4, env_steps)
    return float(np.mean(_play(model, env, episodes)[0]))


def _train(
    cfg: PPOSettings, env: Callable[[int], Any], n_steps: int, rollouts: int, env_steps: int
) -> PPO:
    """Learn in `env(0)`, `env(1)`, ... for so many rollouts each, the step size falling to 0."""
    first = env(0)
    chunk = n_steps * first.num_envs * rollouts
    times = max(math.ceil(env_steps / chunk), 1)
    model = None
    for i in range(times):
        now = replace(cfg, lr=cfg.lr * (1 - i / times), seed=cfg.seed + i)
        model = new_ppo(now, env(i), n_steps, like=model)
        model.learn(chunk)
    return model  # type: ignore[return-value]  # times is at least 1


def adapt_to_variant(
    cfg: PPOSettings,
    family: Family,
    task: Any,
    episodes: int,
    budget: int,
    steps: int,
    start: PPO | None,
) -> tuple[Array, Array]:
    """Return after 0 ... K updates on one variant, and the steps spent by then, (K + 1,) each.

    An update is given as many steps as `budget` whole episodes of the present policy take; its
    return is the mean of `episodes` others.

    Args:
        task: one variant, fields (1, 1).
        start: the model to begin with; None begins with fresh weights.
    """
    judge = to_vec_env(family, task, episodes, unit_actions=True)
    judge.seed(cfg.seed)
    env = to_vec_env(family, task, budget, unit_actions=True)
    model = new_ppo(cfg, env, family.horizon, like=start)
    returns, spent = [], [0]
    for k in range(steps + 1):
        rew, lengths = _play(model, judge, episodes)
        returns.append(float(np.mean(rew)))
        if k < steps:
            n_steps = max(math.ceil(np.mean(lengths)), 2)
            model = new_ppo(replace(cfg, seed=cfg.seed + k), env, n_steps, like=model)
            model.learn(n_steps * budget)
            spent.append(spent[-1] + n_steps * budget)
    return np.array(returns), np.array(spent, dtype=np.float64)


def _play(model: PPO, env: Any, episodes: int) -> tuple[list[float], list[int]]:
    """Returns and lengths of whole episodes."""
    from stable_baselines3.common.evaluation import evaluate_policy

    rew, lengths = evaluate_policy(
        model, env, episodes, deterministic=False, return_episode_rewards=True, warn=False
    )
    return rew, lengths  # type: ignore[return-value]
