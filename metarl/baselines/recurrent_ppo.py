"""Recurrent PPO over the training variants, whose hidden state lasts for a trial: RL²."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from metarl.config.settings import TrainConfig
from metarl.envs import Family, Split
from metarl.evaluation.evaluate import Evaluation, evaluate
from metarl.evaluation.statistics import Array
from metarl.experiment.checkpoint import load_checkpoint
from metarl.outer.train_state import TrainState
from metarl.training.initialization import first_state
from metarl.training.meta_train import meta_train, new_agent

FEWEST = 10  # minimum number of iterations


def train_recurrent(cfg: TrainConfig, family: Family, env_steps: int) -> TrainState:
    """Train for a number of environment steps, ignoring `cfg.iterations`.

    The number of iterations is re-estimated as the length of episodes changes, and the learning
    rate decays with the share of steps done. A small budget uses fewer tasks in each iteration.

    Source: Duan et al. 2016 (arXiv:1611.02779).
    """
    task_steps = cfg.episodes * cfg.trial * family.horizon  # maximum per task and iteration
    most_tasks = max(env_steps // (FEWEST * task_steps), 1)
    cfg = dataclasses.replace(cfg, tasks=min(cfg.tasks, most_tasks))
    total = max(round(env_steps / (cfg.tasks * task_steps)), 1)
    state = first_state(cfg, family)
    while state.env_steps < env_steps:
        if state.iteration:
            total = round(state.iteration * env_steps / state.env_steps)
        cfg_now = dataclasses.replace(cfg, iterations=max(total, state.iteration + 1))
        state = next(meta_train(cfg_now, family, state))
    return state


def evaluate_recurrent(
    cfg: TrainConfig,
    family: Family,
    folder: Path,
    split: Split,
    tasks: int,
    episodes: int,
    seed: int,
) -> Evaluation:
    """Return in each episode of a trial, over `episodes` trials of each task."""
    blank = TrainState(new_agent(cfg, family))
    agent = load_checkpoint(folder, cfg, family, blank).agent
    return evaluate(agent, family, split, tasks, episodes, cfg.trial - 1, seed, cfg.task_chunk)


def columns(trial: int, budget: int, steps: int) -> Array:
    """The index of the episode in a trial that follows k updates' worth of episodes, (K + 1,).

    This is episode k * `budget`, for k = 0 ... K, but at most the last episode of the trials that
    the policy was trained on.
    """
    which: Array = np.minimum(np.arange(steps + 1) * budget, trial - 1)
    return which
