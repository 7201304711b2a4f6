"""One run is one folder: settings, metrics, checkpoints, evaluation and pictures."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from agents.memory import AnyAgent
from envs import Family, UsageError, can_be_filmed
from metarl.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from metarl.config import RunConfig, TrainConfig
from metarl.evaluation import Evaluation, evaluate
from metarl.family_record import (
    check_belongs,
    check_same,
    family_record,
    recorded_family,
    texts,
)
from metarl.files import write_atomically
from metarl.first_state import first_state
from metarl.gain_map import gain_map
from metarl.interrupts import finish_first
from metarl.machine import choose_device, set_matmul
from metarl.meta_training import meta_train, new_agent
from metarl.own_errors import each_told, own_errors_told
from metarl.pictures import adaptation_curve, before_and_after, gif, png
from metarl.programs import can_compile, check_compile, worth_compiling
from metarl.ranks import first, first_alone, wait_for_first
from metarl.room import check_room
from metarl.run_folder import FolderInUse, FolderTaken, HeldFolder, hold, new_folder
from metarl.settings_file import read_config as read_config  # for other modules
from metarl.settings_file import read_settings, write_config
from metarl.state import TrainState
from metarl.tracking import Tracker, Trackers
from metarl.trust import check_trust, flag_for
from metarl.vary import build_family
from metarl.watching import judge, shipped_trackers

Watch = Callable[[TrainState], None]


@dataclass(frozen=True)
class Loaded:
    """A run read back from its folder."""

    train: TrainConfig
    run: RunConfig
    family: Family
    state: TrainState
    record: Mapping[str, Any] = field(default_factory=dict)  # of the family; see `family_record`
    started_from: Mapping[str, Any] = field(default_factory=dict)  # files, for people
    digest: str = ""  # of its config.json

    @property
    def reopening(self) -> str:
        """` --trust` for a command that opens this run again, where it needs that."""
        return flag_for(self.train, texts(self.record))


def start(folder: Path, train: TrainConfig, run: RunConfig, family: Family | None = None) -> Loaded:
    """Make a new run folder, its `config.json` written before the first step.

    Raises:
        UsageError: the folder is there already, or can't be written; or settings clash.
    """
    check_compile(train, run)
    given = family is not None
    family = family or build_family(train, run)
    device = choose_device(run.device)
    with own_errors_told(family):
        check_belongs(train, family)
        record = family_record(train, run, family, given)
        if device.type == "cpu":
            check_room(train, family, run.processes)
        state = first_state(train, family, device)
    run = dataclasses.replace(run, threads=run.threads or torch.get_num_threads())
    try:
        with new_folder(folder):
            written = write_config(folder, train, run, record)
            if train.init_from:  # no folder may name what to begin with once more
                save_checkpoint(folder / "checkpoints", train.family, state, written.digest)
    except FolderInUse:
        raise
    except FolderTaken as error:
        raise FolderTaken(
            f"{error}: go on with `metarl train --resume {quote(str(folder))}"
            f"{flag_for(train, texts(record))}`, or give another --run."
        ) from None
    except OSError as error:
        raise UsageError(
            f"{folder} can't be written ({error.strerror}): give a writable folder with --run."
        ) from error
    return Loaded(train, run, family, state, record, written.started_from, written.digest)


def open_run(
    folder: Path,
    device: str | None = None,
    family: Family | None = None,
    begin: bool = False,
    trust: bool = False,
    advice: str = "give trust=True, or the family object,",
) -> Loaded:
    """The run in a folder, at its newest checkpoint; the folder may be someone else's.

    Args:
        begin: a run that was killed before its first checkpoint starts once more.
        device: instead of the one that the run was started on.
        family: the family object, where it can't be found by its name.
        trust: import what the folder names, `module:Class` or `module:function`.
        advice: how the user says that, for errors.
    Raises:
        UsageError: no run, or a damaged one; code that isn't trusted; or another family than the
            run was started on.
    """
    found, where = read_settings(folder), folder / "checkpoints"
    if family is None:
        check_trust(folder, found.train, texts(found.family), trust, advice)
        family = recorded_family(found.train, found.run, found.family)
    else:
        check_same(found.train, family, found.family)
    if where.is_symlink():
        raise UsageError(f"{where} is a symbolic link: put the folder itself in its place.")
    chosen = choose_device(device or found.run.device)
    starts = begin and not checkpoints(where)
    if starts and any(found.started_from.values()):
        raise UsageError(
            f"{folder} was stopped before its first checkpoint, and began with a model that "
            "no folder may name: start it once more, with --init-from and another --run."
        )
    with own_errors_told(family):
        make = first_state if starts else new_agent
        made: Any = make(found.train, family, chosen)
    state = made
    if not starts:
        state = load_checkpoint(where, found.train, family, TrainState(made), found.digest)
    started = found.family, found.started_from, found.digest
    return Loaded(found.train, found.run, family, state, *started)


def load(
    folder: Path | str, device: str = "cpu", family: Family | None = None, trust: bool = False
) -> AnyAgent:
    """The agent of a run.

    Args:
        family: the family object, where the run was started on one that isn't metarl's.
        trust: or import what the folder names; only for a folder of someone you trust.
    Raises:
        UsageError: as `open_run`.
    """
    return open_run(Path(folder), device, family, trust=trust).state.agent


def train_in(
    folder: Path,
    job: Loaded,
    watch: Watch = lambda state: None,
    trackers: Sequence[Tracker] = (),
    say: Callable[[str], None] = lambda line: None,
) -> TrainState:
    """Meta-train, record and save in the run's folder, from `job.state` to the last iteration.

    Args:
        watch: called with each state, for a progress bar.
        trackers: your own, which take the metrics beside those of `--track`, and are closed.
        say: called with lines for a person: how long compiling took, or why it isn't done; that
            a run can't be resumed exactly.
    Raises:
        RunError: training can't go on; the last good state has been saved.
        KeyboardInterrupt: after saving.
    """
    train, run, state = job.train, job.run, job.state
    set_up(run)
    if not getattr(job.family, "exact_replay", True):
        say(
            f"{job.family.name}: exact replay is off: a run that is resumed isn't the one that was "
            "never stopped, and no parameter was checked for having an effect"
        )
    going_on = state.iteration < train.iterations
    compiled = going_on and worth_compiling(job) and can_compile(job, say)
    states = each_told(job.family, meta_train(train, job.family, state, compiled=compiled))
    if not first():  # of several processes: the first one records and saves
        return _follow(job, states)
    with hold(folder) as held:
        if state.iteration == 0:
            save_checkpoint(folder / "checkpoints", train.family, state, job.digest)
        tracking = Trackers([*shipped_trackers(folder, job), *trackers])
        try:
            return _keep(held, job, states, tracking, watch)
        finally:
            tracking.close()


def _follow(job: Loaded, states: Iterator[TrainState]) -> TrainState:
    """Train along with rank 0, which evaluates and saves; the last state."""
    state = job.state
    for state in states:
        if state.iteration % job.run.eval_every == 0:
            wait_for_first(f"evaluation {state.iteration}")
    return state


def _keep(
    held: HeldFolder, job: Loaded, states: Iterator[TrainState], tracking: Trackers, watch: Watch
) -> TrainState:
    """Record each state, and save one now and then; the last."""
    train, run, state = job.train, job.run, job.state
    saved, clock = state.iteration, time.perf_counter()
    began = clock
    try:
        for nxt in states:
            now = time.perf_counter()
            speed = {
                "time/seconds": now - began,
                "time/env_steps_per_second": (nxt.env_steps - state.env_steps) / (now - clock),
            }
            held.check()
            _record(tracking, job, nxt, speed)
            state = nxt  # not before: a state that is saved has its line in the record
            if state.iteration % run.save_every == 0 or state.iteration == train.iterations:
                with finish_first():
                    tracking.sync()
                    save_checkpoint(held.path / "checkpoints", train.family, state, job.digest)
                    saved = state.iteration
            watch(state)
            clock = time.perf_counter()
    except OSError:  # of the disk itself; a family's own comes as a RunError
        raise
    except BaseException:  # a user's family, or memory, or Ctrl-C: nothing learned is lost
        place = held.place()
        if place and saved < state.iteration:
            with finish_first():
                save_checkpoint(place / "checkpoints", train.family, state, job.digest)
        raise
    return state


def _record(tracking: Trackers, job: Loaded, state: TrainState, speed: dict[str, float]) -> None:
    """Track an iteration, with an evaluation where it is time for one."""
    metrics = {**state.metrics, **speed}
    if state.iteration % job.run.eval_every == 0:
        with first_alone(f"evaluation {state.iteration}"), own_errors_told(job.family):
            judged, distributions = judge(job, state)
        metrics |= judged
        tracking.histograms(state.env_steps, distributions)
    tracking.write(state.iteration, state.env_steps, metrics)


def evaluate_run(job: Loaded, family: Family | None = None, **asked: Any) -> Evaluation:
    """The evaluation that training ends with, or one that differs in what is asked for.

    Args:
        family: to take the tasks from, instead of the run's own.
        asked: arguments of `evaluate`; None is as if not given.
    """
    set_up(job.run)
    own = {"episodes": job.train.episodes, "steps": job.run.eval_steps}
    given = {name: value for name, value in asked.items() if value is not None}
    chunk = job.train.task_chunk
    family = family or job.family
    with own_errors_told(family):
        return evaluate(job.state.agent, family, chunk=chunk, **{**own, **given})


def set_up(run: RunConfig) -> None:
    """Threads and matrix products as in the run, on which the last digits depend."""
    torch.set_num_threads(run.threads)
    set_matmul(run.matmul)


def conclude(folder: Path, job: Loaded, state: TrainState) -> Evaluation:
    """Evaluate on unseen tasks; write `evaluation.json` and the pictures."""
    train, run = job.train, job.run
    result = evaluate_run(dataclasses.replace(job, state=state))
    record = result.to_json(train.algo, state.env_steps)
    write_atomically(folder / "evaluation.json", json.dumps(record, indent=1).encode())
    curve, gains = adaptation_curve(result), gain_map(result, job.family)
    write_atomically(folder / "adaptation.png", png(curve))
    write_atomically(folder / "gain.png", png(gains))
    frames = []
    if can_be_filmed(job.family):
        with own_errors_told(job.family):
            frames = before_and_after(
                state.agent, job.family, run.eval_steps, train.episodes, train.seed
            )
        write_atomically(folder / "episode.gif", gif(frames))
    if run.track == "tensorboard":
        from metarl.board import TensorBoardTracker

        board = TensorBoardTracker(folder, state.env_steps)
        board.figure("pictures/adaptation_curve", curve, state.env_steps)
        board.figure("pictures/gain_map", gains, state.env_steps)
        if frames:
            board.film("pictures/episode_before_and_after", frames, state.env_steps)
        if state.iteration % run.eval_every:  # else its curves have this iteration already
            with own_errors_told(job.family):
                metrics, distributions = judge(job, state)
            board.scalars(state.env_steps, metrics)
            board.histograms(state.env_steps, distributions)
        board.conclude(state.env_steps, result)
        board.close()
    return result
