"""One run is one folder: settings, metrics, checkpoints, evaluation and pictures."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

import torch

from agents.memory import AnyAgent
from envs import Family, UsageError, can_be_filmed
from metarl.adaptation import how_it_adapts
from metarl.checkpoint import (
    FORMAT,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
    write_atomically,
)
from metarl.config import RunConfig, TrainConfig
from metarl.evaluation import Evaluation, evaluate
from metarl.first_state import first_state
from metarl.gain_map import gain_map
from metarl.machine import choose_device, git_commit, set_matmul, versions
from metarl.meta_training import meta_train, new_agent
from metarl.pictures import adaptation_curve, before_and_after, gif, png
from metarl.programs import can_compile, check_compile, worth_compiling
from metarl.ranks import first
from metarl.state import TrainState
from metarl.tracking import Tracker, Trackers
from metarl.vary import build_family
from metarl.watching import judge, shipped_trackers

Watch = Callable[[TrainState], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Loaded:
    """A run read back from its folder."""

    train: TrainConfig
    run: RunConfig
    family: Family
    state: TrainState


def start(folder: Path, train: TrainConfig, run: RunConfig, family: Family | None = None) -> Loaded:
    """Make a new run folder, its `config.json` written before the first step.

    Raises:
        UsageError: the folder is there already, or can't be written; or settings clash.
    """
    check_compile(train, run)
    family = family or build_family(train, run)
    device = choose_device(run.device)
    state = first_state(train, family, device)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} exists already: go on with `metarl train --resume {quote(str(folder))}`, "
            "or give another --run."
        )
    run = dataclasses.replace(run, threads=run.threads or torch.get_num_threads())
    record = {
        "format": FORMAT,
        "train": dataclasses.asdict(train),
        "run": dataclasses.asdict(run),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "config.json", json.dumps(record, indent=1).encode())
    except OSError as error:
        raise UsageError(
            f"{folder} can't be written ({error.strerror}): give a writable folder with --run."
        ) from error
    return Loaded(train, run, family, state)


def from_record(kind: type[T], record: dict[str, Any]) -> T:
    """A settings object from its JSON, in which a tuple is a list."""
    record = dict(record)
    if "first_order" in record:  # as it was called until format 2
        record["second_order_steps"] = 0 if record.pop("first_order") else 20
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in record.items()})


def read_config(folder: Path) -> tuple[TrainConfig, RunConfig]:
    """The settings that a run was started with.

    Raises:
        UsageError: no run there, half-written, damaged, or from a newer metarl.
    """
    path = folder / "config.json"
    if not path.exists():
        raise UsageError(
            f"no config.json in {folder}: give the folder of a run, such as runs/NAME."
        )
    try:
        record = json.loads(path.read_text())
        known, newest = record["format"], record["versions"]["metarl"]
        if known > FORMAT:
            raise UsageError(
                f"written by metarl {newest} in format {known}, "
                f"this metarl reads up to {FORMAT}: upgrade metarl."
            )
        return from_record(TrainConfig, record["train"]), from_record(RunConfig, record["run"])
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is damaged ({error!r}): restore it, or start a new run."
        ) from error


def open_run(
    folder: Path, device: str | None = None, family: Family | None = None, begin: bool = False
) -> Loaded:
    """The run in a folder, at its newest checkpoint.

    Args:
        begin: a run that was killed before its first checkpoint starts once more.
        device: instead of the one that the run was started on.
        family: the family object, where it can't be found by its name.
    """
    train, run = read_config(folder)
    family = family or build_family(train, run)
    chosen, where = choose_device(device or run.device), folder / "checkpoints"
    if begin and not checkpoints(where):
        return Loaded(train, run, family, first_state(train, family, chosen))
    blank = TrainState(new_agent(train, family, chosen))
    return Loaded(train, run, family, load_checkpoint(where, train.family, blank))


def load(folder: Path | str, device: str = "cpu", family: Family | None = None) -> AnyAgent:
    """The agent of a run."""
    return open_run(Path(folder), device, family).state.agent


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
        say: called with lines for a person: how long compiling took, or why it isn't done.
    Raises:
        RunError: training can't go on; the last good state has been saved.
        KeyboardInterrupt: after saving.
    """
    train, run, state = job.train, job.run, job.state
    set_up(run)
    going_on = state.iteration < train.iterations
    compiled = going_on and worth_compiling(job) and can_compile(job, say)
    states = meta_train(train, job.family, state, compiled=compiled)
    if not first():  # of several processes: the first one records and saves
        return (deque(states, maxlen=1) or [state])[0]
    if state.iteration == 0:
        save_checkpoint(folder / "checkpoints", train.family, state)
    tracking = Trackers([*shipped_trackers(folder, job), *trackers])
    try:
        return _keep(folder, job, states, tracking, watch)
    finally:
        tracking.close()


def _keep(
    folder: Path, job: Loaded, states: Iterator[TrainState], tracking: Trackers, watch: Watch
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
            _record(tracking, job, nxt, speed)
            state = nxt  # not before: a state that is saved has its line in the record
            if state.iteration % run.save_every == 0 or state.iteration == train.iterations:
                tracking.sync()
                save_checkpoint(folder / "checkpoints", train.family, state)
                saved = state.iteration
            watch(state)
            clock = time.perf_counter()
    except OSError:  # of the disk itself
        raise
    except BaseException:  # a user's family, or memory, or Ctrl-C: nothing learned is lost
        if saved < state.iteration:
            save_checkpoint(folder / "checkpoints", train.family, state)
        raise
    return state


def _record(tracking: Trackers, job: Loaded, state: TrainState, speed: dict[str, float]) -> None:
    """Track an iteration, with an evaluation where it is time for one."""
    metrics = {**state.metrics, **speed}
    if state.iteration % job.run.eval_every == 0:
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
    return evaluate(job.state.agent, family or job.family, chunk=chunk, **{**own, **given})


def set_up(run: RunConfig) -> None:
    """Threads and matrix products as in the run, on which the last digits depend."""
    torch.set_num_threads(run.threads)
    set_matmul(run.matmul)


def conclude(folder: Path, job: Loaded, state: TrainState) -> Evaluation:
    """Evaluate on unseen tasks; write `evaluation.json` and the pictures."""
    train, run = job.train, job.run
    adapted: list[AnyAgent] = []
    result = evaluate_run(dataclasses.replace(job, state=state), watch=adapted.append)
    record = result.to_json(train.algo, state.env_steps)
    write_atomically(folder / "evaluation.json", json.dumps(record, indent=1).encode())
    curve, gains = adaptation_curve(result), gain_map(result, job.family)
    write_atomically(folder / "adaptation.png", png(curve))
    write_atomically(folder / "gain.png", png(gains))
    frames = []
    if can_be_filmed(job.family):
        frames = before_and_after(
            state.agent, job.family, run.eval_steps, train.episodes, train.seed
        )
        write_atomically(folder / "episode.gif", gif(frames))
    if run.track == "tensorboard":
        from metarl.board import TensorBoardTracker

        board = TensorBoardTracker(folder, state.env_steps)
        board.figure("eval/adaptation_curve", curve, state.env_steps)
        board.figure("eval/gain_map", gains, state.env_steps)
        if frames:
            board.film("eval/episode_before_and_after", frames, state.env_steps)
        if state.iteration % run.eval_every:  # else there are some of this iteration
            board.histograms(state.env_steps, how_it_adapts(train, state.agent, adapted)[1])
        board.conclude(state.env_steps, result)
        board.close()
    return result
