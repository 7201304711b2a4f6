"""The final evaluation of a run and its files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from metarl.config.named_code import trackers_in
from metarl.config.settings import RunConfig
from metarl.config.settings_file import read_config as read_config  # for other modules
from metarl.envs import Family, can_be_filmed
from metarl.evaluation.evaluate import Evaluation, evaluate
from metarl.experiment.loaded_run import Run
from metarl.experiment.periodic_eval import evaluate_validation
from metarl.outer.train_state import TrainState
from metarl.plotting.episodes import adaptation_curve, before_and_after, gif, pixels, png
from metarl.plotting.gain_map import gain_map
from metarl.system.files import write_atomically
from metarl.system.machine import set_matmul
from metarl.system.user_errors import report_user_errors


def evaluate_run(job: Run, family: Family | None = None, **asked: Any) -> Evaluation:
    """Evaluate a run with its own settings, or with those given instead.

    Args:
        family: source of the tasks instead of the run's family.
        asked: arguments of `evaluate`; None means the run's setting.
    """
    set_up(job.run)
    defaults = {"episodes": job.train.episodes, "steps": job.run.eval_steps}
    given = {name: value for name, value in asked.items() if value is not None}
    chunk = job.train.task_chunk
    family = family or job.family
    with report_user_errors(family):
        return evaluate(job.state.agent, family, chunk=chunk, **{**defaults, **given})


def conclude(folder: Path, job: Run, state: TrainState) -> Evaluation:
    """Evaluate on unseen tasks; write `evaluation.json` and the figures."""
    train, run = job.train, job.run
    result = evaluate_run(dataclasses.replace(job, state=state))
    record = result.to_json(train.algo, state.env_steps)
    write_atomically(folder / "evaluation.json", json.dumps(record, indent=1).encode())
    curve, gains = map(pixels, (adaptation_curve(result), gain_map(result, job.family)))
    write_atomically(folder / "adaptation.png", png(curve))
    write_atomically(folder / "gain.png", png(gains))
    frames = []
    if can_be_filmed(job.family):
        with report_user_errors(job.family):
            frames = before_and_after(
                state.agent, job.family, run.eval_steps, train.episodes, train.seed
            )
        write_atomically(folder / "episode.gif", gif(frames))
    if "tensorboard" in trackers_in(run.track):
        from metarl.tracking.tensorboard import TensorBoardTracker

        board = TensorBoardTracker(folder, state.env_steps)
        board.figure("pictures/adaptation_curve", curve, state.env_steps)
        board.figure("pictures/gain_map", gains, state.env_steps)
        if frames:
            board.film("pictures/episode_before_and_after", frames, state.env_steps)
        if state.iteration % run.eval_every:  # otherwise training has logged this iteration
            with report_user_errors(job.family):
                metrics, distributions = evaluate_validation(job, state)
            board.scalars(state.env_steps, metrics)
            board.histograms(state.env_steps, distributions)
        board.conclude(state.env_steps, result)
        board.close()
    return result


def set_up(run: RunConfig) -> None:
    """Set threads and matrix-product precision as in the run, for reproducible rounding."""
    torch.set_num_threads(run.threads)
    set_matmul(run.matmul)
