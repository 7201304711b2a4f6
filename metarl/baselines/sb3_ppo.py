"""Stable-Baselines3's PPO as a baseline: trained over variants, and adapted to one.

Each call builds a new model and copies the weights and the optimizer state, because an SB3 model
can't change its number of environments or steps, or its learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from metarl.agents.rng import stream
from metarl.baselines.ppo_model import PPOSettings, new_ppo, ppo_env, scale_head, with_weights
from metarl.envs import Family, sample_tasks
from metarl.evaluation.statistics import Array

if TYPE_CHECKING:
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv

ROLLOUTS = 400  # target number of rollouts in a long training
FEWEST, MOST = 50, 400  # limits of the number of environments in a long training
REDRAW = 4  # rollouts before new variants are drawn


@dataclass(frozen=True)
class LongTraining:
    """Numbers of variants and rollouts in a training of `env_steps`."""

    family: Family
    env_steps: int

    @property
    def variants(self) -> int:
        """Number of parallel variants, one environment each; fewer for a small budget."""
        episodes = self.env_steps // self.family.horizon  # if all have the maximum length
        return max(min(max(episodes // ROLLOUTS, FEWEST), MOST, episodes // 10), 2)

    @property
    def chunk(self) -> int:
        """Environment steps before new variants are drawn."""
        rollout = self.family.horizon * self.variants
        return rollout * min(max(self.env_steps // (20 * rollout), 1), REDRAW)

    @property
    def chunks(self) -> int:
        """Number of chunks in the training, at least one."""
        return max(round(self.env_steps / self.chunk), 1)

    def until(self, share: float) -> int:
        """Number of chunks in a share of the training, at least one."""
        return max(round(share * self.chunks), 1)


def train_over_variants(
    cfg: PPOSettings,
    family: Family,
    env_steps: int,
    keep: Callable[[int, PPO], None] = lambda done, model: None,
    start: tuple[int, dict[str, Tensor]] | None = None,
    end: int | None = None,
) -> PPO:
    """Train one policy for all variants of the training split: domain randomization.

    New variants are drawn for each chunk; the learning rate decays to 0.

    Source: as a strong baseline, Zhao et al. 2022 (arXiv:2206.03271).

    Args:
        keep: called with the number of finished chunks and the model.
        start: number of finished chunks to resume from, with weights and optimizer state.
        end: stop after this number of chunks; None for all.
    """
    plan = LongTraining(family, env_steps)

    def env(i: int) -> VecEnv:
        gen = stream(cfg.seed, "multi-task variants", i)
        return ppo_env(cfg, family, sample_tasks(family, plan.variants, gen))

    done, model = 0, None
    if start:
        done, tensors = start
        model = with_weights(new_ppo(cfg, env(0), family.horizon), tensors, optimizer=True)
    for i in range(done, end or plan.chunks):
        model = _learn(cfg, env(i), family.horizon, plan.chunk, i / plan.chunks, i, model)
        keep(i + 1, model)
    return model  # type: ignore[return-value]  # there is at least one chunk


def train_on_variant(
    cfg: PPOSettings, family: Family, task: Any, episodes: int, env_steps: int
) -> float:
    """Mean return over `episodes` on one variant, fields (1, 1), of a policy trained on it."""
    env = ppo_env(cfg, family, task, episodes)
    chunk = REDRAW * family.horizon * episodes
    chunks = max(math.ceil(env_steps / chunk), 1)
    model = None
    for i in range(chunks):
        model = _learn(cfg, env, family.horizon, chunk, i / chunks, i, model)
    return float(np.mean(play(model, env, episodes)[0]))  # type: ignore[arg-type]


def _learn(
    cfg: PPOSettings,
    env: VecEnv,
    n_steps: int,
    env_steps: int,
    done: float,
    number: int,
    like: PPO | None,
) -> PPO:
    """Train for one chunk; `done` is the finished share of the training."""
    cfg_now = replace(cfg, lr=cfg.lr * (1 - done), seed=cfg.seed + number)
    return new_ppo(cfg_now, env, n_steps, like).learn(env_steps)


def adapt_to_variant(
    cfg: PPOSettings,
    family: Family,
    task: Any,
    episodes: int,
    budget: int,
    steps: int,
    start: dict[str, Tensor] | None,
    head: float = 1.0,
) -> tuple[Array, Array]:
    """Return after 0 ... K updates on one variant, and environment steps used, (K + 1,) each.

    Each update collects as many steps as `budget` episodes of the current policy have. Returns are
    means over `episodes` separate episodes.

    Args:
        task: one variant, fields (1, 1).
        start: initial weights, with a new optimizer; None for a random initialization.
        head: factor that `scale_head` applies to the last layer of `start`.
    """
    test_env = ppo_env(cfg, family, task, episodes)
    test_env.seed(cfg.seed)
    env = ppo_env(cfg, family, task, budget)
    model = new_ppo(cfg, env, family.horizon)
    if start is not None:
        scale_head(with_weights(model, start), head)
    returns, used = [], [0]
    for k in range(steps + 1):
        rew, lengths = play(model, test_env, episodes)
        returns.append(float(np.mean(rew)))
        if k < steps:
            n_steps = max(math.ceil(np.mean(lengths)), 2)
            model = new_ppo(replace(cfg, seed=cfg.seed + k), env, n_steps, like=model)
            model.learn(n_steps * budget)
            used.append(used[-1] + n_steps * budget)
    return np.array(returns), np.array(used, dtype=np.float64)


def play(model: PPO, env: Any, episodes: int) -> tuple[list[float], list[int]]:
    """Returns and lengths of episodes with sampled actions."""
    from stable_baselines3.common.evaluation import evaluate_policy

    rew, lengths = evaluate_policy(
        model, env, episodes, deterministic=False, return_episode_rewards=True, warn=False
    )
    return rew, lengths  # type: ignore[return-value]
