"""What is watched while a run trains, and who is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from agents.agent import Agent
from agents.memory import AnyAgent
from envs import unseen
from metarl.adaptation import how_it_adapts
from metarl.evaluation import evaluate
from metarl.state import TrainState
from metarl.tags import columns, judged
from metarl.tracking import CsvTracker, Tracker, Values

if TYPE_CHECKING:
    from metarl.run import Loaded


def shipped_trackers(folder: Path, job: Loaded) -> list[Tracker]:
    """Those that `--track` asks for."""
    run, state = job.run, job.state
    if run.track == "none":
        return []
    success, inner = getattr(job.family, "success", False), isinstance(state.agent, Agent)
    oracle, implicit = hasattr(job.family, "oracle"), job.train.outer == "implicit"
    header = columns(run.eval_steps, success, inner, oracle, implicit)
    csv = CsvTracker(folder / "metrics.csv", header, state.iteration)
    if run.track == "csv":
        return [csv]
    from metarl.board import TensorBoardTracker  # what isn't used isn't loaded

    board = TensorBoardTracker(folder, state.env_steps)
    train = dataclasses.replace(job.train, **job.started_from)
    board.introduce(train, run, header, unseen(job.family, "validation"), state.env_steps)
    return [csv, board]


def judge(job: Loaded, state: TrainState) -> tuple[dict[str, float], dict[str, Values]]:
    """Metrics on validation tasks, and distributions of how the agent adapts to them.

    Never on test tasks: who stops, tunes or chooses by these curves would have seen the test.
    `metarl evaluate RUN --split validation` plays the same tasks.
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
    return {**judged(result), **inner}, distributions
