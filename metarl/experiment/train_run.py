"""Meta-training in a run folder, with tracking and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from metarl.config.settings_file import read_config as read_config  # for other modules
from metarl.distributed.collectives import is_rank_zero, rank_zero_only, wait_for_rank_zero
from metarl.experiment.checkpoint import save_checkpoint
from metarl.experiment.compile_mode import can_compile, worth_compiling
from metarl.experiment.final_evaluation import set_up
from metarl.experiment.loaded_run import Run
from metarl.experiment.periodic_eval import evaluate_validation, shipped_trackers
from metarl.experiment.run_folder import HeldFolder, hold
from metarl.outer.train_state import TrainState
from metarl.system.signals import finish_first
from metarl.system.user_errors import report_each, report_user_errors
from metarl.tracking.trackers import Tracker, Trackers
from metarl.training.meta_train import meta_train

Watch = Callable[[TrainState], None]


def train_in(
    folder: Path,
    job: Run,
    watch: Watch = lambda state: None,
    trackers: Sequence[Tracker] = (),
    say: Callable[[str], None] = lambda line: None,
) -> TrainState:
    """Meta-train from `job.state` to the last iteration, tracking and saving in the run's folder.

    Args:
        watch: called with each state, for a progress bar.
        trackers: custom trackers, in addition to those of `--track`; closed at the end.
        say: called with lines to display: how long compilation took or why it failed, and that a
            run can't be resumed exactly.
    Raises:
        RunError: training can't continue; the last valid state has been saved.
        KeyboardInterrupt: after saving.
    """
    train, run, state = job.train, job.run, job.state
    set_up(run)
    if not getattr(job.family, "exact_replay", True):
        say(
            f"{job.family.name}: exact replay is off: a resumed run differs from an uninterrupted "
            "one, and parameters were not checked for having an effect"
        )
    unfinished = state.iteration < train.iterations
    compiled = unfinished and worth_compiling(job) and can_compile(job, say)
    states = report_each(job.family, meta_train(train, job.family, state, compiled=compiled))
    if not is_rank_zero():  # rank 0 tracks and saves
        return _follow(job, states)
    with hold(folder) as held:
        if state.iteration == 0:
            save_checkpoint(folder / "checkpoints", train.family, state, job.digest)
        tracking = Trackers([*shipped_trackers(folder, job), *trackers])
        try:
            return _track_and_save(held, job, states, tracking, watch)
        finally:
            tracking.close()


def _follow(job: Run, states: Iterator[TrainState]) -> TrainState:
    """Train along with rank 0, which evaluates and saves, and return the last state."""
    state = job.state
    for state in states:
        if state.iteration % job.run.eval_every == 0:
            wait_for_rank_zero(f"evaluation {state.iteration}")
    return state


def _track_and_save(
    held: HeldFolder, job: Run, states: Iterator[TrainState], tracking: Trackers, watch: Watch
) -> TrainState:
    """Track each state, save every `save_every` iterations, and return the last state."""
    train, run, state = job.train, job.run, job.state
    saved, clock = state.iteration, time.perf_counter()
    start = clock
    try:
        for new_state in states:
            now = time.perf_counter()
            new_steps = new_state.env_steps - state.env_steps
            speed = {
                "time/seconds": now - start,
                "time/env_steps_per_second": new_steps / (now - clock),
            }
            held.check()
            _track(tracking, job, new_state, speed)
            state = new_state  # only now: a saved state must have its line in metrics.csv
            if state.iteration % run.save_every == 0 or state.iteration == train.iterations:
                with finish_first():
                    tracking.sync()
                    save_checkpoint(held.path / "checkpoints", train.family, state, job.digest)
                    saved = state.iteration
            watch(state)
            clock = time.perf_counter()
    except OSError:  # the disk failed, so don't save; an OSError of the family is a RunError here
        raise
    except BaseException:  # including Ctrl-C and errors of a user's family: save before raising
        place = held.place()
        if place and saved < state.iteration:
            with finish_first():
                save_checkpoint(place / "checkpoints", train.family, state, job.digest)
        raise
    return state


def _track(tracking: Trackers, job: Run, state: TrainState, speed: dict[str, float]) -> None:
    """Track an iteration, with an evaluation every `eval_every` iterations."""
    metrics = {**state.metrics, **speed}
    if state.iteration % job.run.eval_every == 0:
        with rank_zero_only(f"evaluation {state.iteration}"), report_user_errors(job.family):
            eval_metrics, distributions = evaluate_validation(job, state)
        metrics |= eval_metrics
        tracking.histograms(state.env_steps, distributions)
    tracking.write(state.iteration, state.env_steps, metrics)
