"""Periodic evaluation during training, and the built-in trackers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.learners.recurrent_agent import AnyAgent
from metarl.config.named_code import trackers_in
from metarl.envs import unseen
from metarl.evaluation.evaluate import evaluate
from metarl.experiment.named_hooks import trackers_of
from metarl.outer.train_state import TrainState
from metarl.tracking.adaptation_stats import how_it_adapts
from metarl.tracking.metric_names import columns, eval_metrics
from metarl.tracking.trackers import CsvTracker, Tracker, Values

if TYPE_CHECKING:
    from metarl.experiment.loaded_run import Run


def shipped_trackers(folder: Path, job: Run) -> list[Tracker]:
    """Those that `--track` asks for."""
    run, state, names = job.run, job.state, trackers_in(job.run.track)
    own = trackers_of(job)  # before any file is open: they may raise
    if not {"tensorboard", "csv"} & set(names):
        return own
    success, inner = getattr(job.family, "success", False), isinstance(state.agent, Agent)
    oracle, implicit = hasattr(job.family, "oracle"), job.train.outer == "implicit"
    header = columns(run.eval_steps, success, inner, oracle, implicit)
    csv = CsvTracker(folder / "metrics.csv", header, state.iteration)
    if "tensorboard" not in names:
        return [csv, *own]
    from metarl.tracking.tensorboard import TensorBoardTracker  # what isn't used isn't loaded

    board = TensorBoardTracker(folder, state.env_steps)
    train = dataclasses.replace(job.train, **job.started_from)
    board.introduce(train, run, header, unseen(job.family, "validation"), state.env_steps)
    return [csv, board, *own]


def evaluate_validation(job: Run, state: TrainState) -> tuple[dict[str, float], dict[str, Values]]:
    """Metrics on validation tasks, and distributions of the adaptation to them.

    Test tasks are never used here: stopping, tuning or selecting by these curves would leak them.
    `metarl evaluate RUN --split validation` uses the same tasks.
    """
    adapted: list[AnyAgent] = []
    result = evaluate(
        state.agent,
        job.family,
        "validation",
        steps=job.run.eval_steps,
        episodes=job.train.episodes,
        chunk=job.train.task_chunk,
        watch=adapted.append,
    )
    inner, distributions = how_it_adapts(job.train, state.agent, adapted)
    return {**eval_metrics(result), **inner}, distributions
