"""Recurrent PPO over the training variants, whose memory lasts for a trial: RL²."""

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

FEWEST = 10  # iterations


def train_recurrent(cfg: TrainConfig, family: Family, env_steps: int) -> TrainState:
    """The settings' own algorithm for so many steps, whatever their `iterations` say.

    How many iterations these are shows as episodes get shorter or longer, and the step size falls
    with the share of steps that is done. A small budget has fewer tasks in an iteration.
    Source: Duan et al. 2016 (arXiv:1611.02779).
    """
    trials = cfg.episodes * cfg.trial * family.horizon  # steps of a task in an iteration, at most
    fitting = max(env_steps // (FEWEST * trials), 1)
    cfg = dataclasses.replace(cfg, tasks=min(cfg.tasks, fitting))
    total = max(round(env_steps / (cfg.tasks * trials)), 1)
    state = first_state(cfg, family)
    while state.env_steps < env_steps:
        if state.iteration:
            total = round(state.iteration * env_steps / state.env_steps)
        now = dataclasses.replace(cfg, iterations=max(total, state.iteration + 1))
        state = next(meta_train(now, family, state))
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
    """Return in each episode of a trial, of `episodes` trials of each task."""
    blank = TrainState(new_agent(cfg, family))
    agent = load_checkpoint(folder, cfg, family, blank).agent
    return evaluate(agent, family, split, tasks, episodes, cfg.trial - 1, seed, cfg.task_chunk)


def columns(trial: int, budget: int, steps: int) -> Array:
    """The episode of a trial, counted from 0, that shows the return after k updates' episodes.

    After k * `budget` episodes it would be the next one; a memory that was trained on trials of
    `trial` episodes has its last there, however many more it may play. (K + 1,) for k = 0 ... K.
    """
    which: Array = np.minimum(np.arange(steps + 1) * budget, trial - 1)
    return which
