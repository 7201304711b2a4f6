"""Stable-Baselines3's PPO as the plain alternative: trained over variants, and adapted to one.

Each call makes a model anew and hands the weights and the optimizer on, since a model of SB3 keeps
the number of environments, steps and its learning rate for life.
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

ROLLOUTS = 400  # of a long training, where the number of environments allows
FEWEST, MOST = 50, 400  # environments of a long training
REDRAW = 4  # rollouts on the same variants


@dataclass(frozen=True)
class LongTraining:
    """How many variants and rollouts a training of `env_steps` has."""

    family: Family
    env_steps: int

    @property
    def variants(self) -> int:
        """Side by side, one environment each; few where the budget is small."""
        episodes = self.env_steps // self.family.horizon  # if all are as long as they can be
        return max(min(max(episodes // ROLLOUTS, FEWEST), MOST, episodes // 10), 2)

    @property
    def chunk(self) -> int:
        """Environment steps on the same variants."""
        rollout = self.family.horizon * self.variants
        return rollout * min(max(self.env_steps // (20 * rollout), 1), REDRAW)

    @property
    def chunks(self) -> int:
        """In the whole training, one at least."""
        return max(round(self.env_steps / self.chunk), 1)

    def until(self, share: float) -> int:
        """Chunks after which this share of the training is done, one at least."""
        return max(round(share * self.chunks), 1)


def train_over_variants(
    cfg: PPOSettings,
    family: Family,
    env_steps: int,
    keep: Callable[[int, PPO], None] = lambda done, model: None,
    start: tuple[int, dict[str, Tensor]] | None = None,
    end: int | None = None,
) -> PPO:
    """One policy for all variants of the training split: domain randomization.

    New variants are drawn for each chunk of a few rollouts; the step size falls to 0.
    Source: as the baseline to beat, Zhao et al. 2022 (arXiv:2206.03271).

    Args:
        keep: called with the number of chunks that are done, and the model.
        start: go on after so many chunks, with the weights and optimizer of then.
        end: stop after so many chunks; None goes on to the last.
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
    return model  # type: ignore[return-value]  # there is a chunk at least


def train_on_variant(
    cfg: PPOSettings, family: Family, task: Any, episodes: int, env_steps: int
) -> float:
    """Mean return over `episodes` on one variant, fields (1, 1), of a policy trained for it."""
    env = ppo_env(cfg, family, task, episodes)
    chunk = REDRAW * family.horizon * episodes
    times = max(math.ceil(env_steps / chunk), 1)
    model = None
    for i in range(times):
        model = _learn(cfg, env, family.horizon, chunk, i / times, i, model)
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
    """A chunk of a long training, of which a share is done."""
    now = replace(cfg, lr=cfg.lr * (1 - done), seed=cfg.seed + number)
    return new_ppo(now, env, n_steps, like).learn(env_steps)


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
    """Return after 0 ... K updates on one variant, and the steps spent by then, (K + 1,) each.

    An update is given as many steps as `budget` whole episodes of the present policy take; its
    return is the mean of `episodes` others.

    Args:
        task: one variant, fields (1, 1).
        start: the weights to begin with, with a new optimizer; None begins with fresh weights.
        head: what `scale_head` multiplies their last layer by, before anything is played.
    """
    test_env = ppo_env(cfg, family, task, episodes)
    test_env.seed(cfg.seed)
    env = ppo_env(cfg, family, task, budget)
    model = new_ppo(cfg, env, family.horizon)
    if start is not None:
        scale_head(with_weights(model, start), head)
    returns, spent = [], [0]
    for k in range(steps + 1):
        rew, lengths = play(model, test_env, episodes)
        returns.append(float(np.mean(rew)))
        if k < steps:
            n_steps = max(math.ceil(np.mean(lengths)), 2)
            model = new_ppo(replace(cfg, seed=cfg.seed + k), env, n_steps, like=model)
            model.learn(n_steps * budget)
            spent.append(spent[-1] + n_steps * budget)
    return np.array(returns), np.array(spent, dtype=np.float64)


def play(model: PPO, env: Any, episodes: int) -> tuple[list[float], list[int]]:
    """Returns and lengths of whole episodes, with sampled actions."""
    from stable_baselines3.common.evaluation import evaluate_policy

    rew, lengths = evaluate_policy(
        model, env, episodes, deterministic=False, return_episode_rewards=True, warn=False
    )
    return rew, lengths  # type: ignore[return-value]
