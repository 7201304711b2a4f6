"""Meta-training in a run folder, with tracking and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from metarl.config.settings_file import read_config as read_config  # for other modules
from metarl.config.trust import check_hooks_trusted
from metarl.distributed.collectives import is_rank_zero, rank_zero_only, wait_for_rank_zero
from metarl.experiment.checkpoint import save_checkpoint
from metarl.experiment.compile_mode import can_compile, worth_compiling
from metarl.experiment.final_evaluation import set_up
from metarl.experiment.loaded_run import Run
from metarl.experiment.named_hooks import Callback, stopping_rule
from metarl.experiment.periodic_eval import evaluate_validation, shipped_trackers
from metarl.experiment.run_folder import HeldFolder, hold
from metarl.outer.train_state import TrainState
from metarl.system.signals import finish_first
from metarl.system.user_errors import report_each, report_user_errors
from metarl.tracking.trackers import Tracker, Trackers
from metarl.training.meta_train import meta_train

Watch = Callable[[TrainState], None]
Stop = Callable[[TrainState], bool]


def train_in(
    folder: Path,
    job: Run,
    watch: Watch = lambda state: None,
    trackers: Sequence[Tracker] = (),
    say: Callable[[str], None] = lambda line: None,
    callbacks: Sequence[Callback] = (),
) -> TrainState:
    """Meta-train from `job.state` to the last iteration, tracking and saving in the run's folder.

    Args:
        watch: called with each state, for a progress bar.
        trackers: custom trackers, used in addition to those of `--track` and closed at the end.
        say: called with lines for a person: how long compiling took, or why it isn't done; that
            a run can't be resumed exactly; which callback stopped it.
        callbacks: called with each state, besides those of `--callback`; training stops, and the
            state is saved, when one of them returns True.
    Raises:
        UsageError: the folder names trackers or callbacks, and isn't trusted.
        RunError: training can't go on; the last good state has been saved.
        KeyboardInterrupt: after saving.
    """
    train, run, state = job.train, job.run, job.state
    check_hooks_trusted(folder, run, job.trusted, "open it with trust=True")
    set_up(run)
    stop = _announced(stopping_rule(run.callback, callbacks), train.iterations, say)
    if not getattr(job.family, "exact_replay", True):
        say(
            f"{job.family.name}: exact replay is off: a resumed run differs from an uninterrupted "
            "one, and parameters were not checked for having an effect"
        )
    unfinished = state.iteration < train.iterations
    compiled = unfinished and worth_compiling(job) and can_compile(job, say)
    states = report_each(job.family, meta_train(train, job.family, state, compiled=compiled))
    if not is_rank_zero():  # of several processes: the first one records and saves
        return _follow(job, states, stop)
    with hold(folder) as held:
        if state.iteration == 0:
            save_checkpoint(folder / "checkpoints", train.family, state, job.digest)
        tracking = Trackers([*shipped_trackers(folder, job), *trackers])
        try:
            return _keep(held, job, states, tracking, watch, stop)
        finally:
            tracking.close()


def _announced(
    rule: Callable[[TrainState], str], iterations: int, say: Callable[[str], None]
) -> Stop:
    """Whether the rule stops training after a state; if it does, that is said."""

    def stop(state: TrainState) -> bool:
        name = rule(state)
        if name:
            say(f"stopped after iteration {state.iteration} of {iterations}: {name} returned True")
        return bool(name)

    return stop


def _follow(job: Run, states: Iterator[TrainState], stop: Stop) -> TrainState:
    """Train along with rank 0, which evaluates and saves; the last state."""
    state = job.state
    for state in states:
        if state.iteration % job.run.eval_every == 0:
            wait_for_rank_zero(f"evaluation {state.iteration}")
        if stop(state):
            break
    return state


def _keep(
    held: HeldFolder,
    job: Run,
    states: Iterator[TrainState],
    tracking: Trackers,
    watch: Watch,
    stop: Stop,
) -> TrainState:
    """Track each state, save every `save_every` iterations, and return the last state."""
    train, run, state = job.train, job.run, job.state
    saved, clock = state.iteration, time.perf_counter()
    start = clock

    def save(folder: Path) -> None:
        nonlocal saved
        with finish_first():
            save_checkpoint(folder / "checkpoints", train.family, state, job.digest)
            saved = state.iteration

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
                tracking.sync()
                save(held.path)
            watch(state)
            if stop(state):
                break
            clock = time.perf_counter()
        if saved < state.iteration:  # stopped between two checkpoints
            tracking.sync()
            save(held.path)
    except OSError:  # of the disk itself; a family's own comes as a RunError
        held.check()  # or the folder was moved since it was last looked at
        raise
    except BaseException:  # including Ctrl-C and errors of a user's family: save before raising
        place = held.place()
        if place and saved < state.iteration:
            save(place)
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
