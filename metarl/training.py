"""`metarl train`: run or resume, in one process or several, and what is shown of it."""

from __future__ import annotations

import dataclasses
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from envs import RunError, UsageError, can_be_filmed, parameters
from metarl.config import RunConfig, TrainConfig
from metarl.json_output import print_json, real_stdout
from metarl.launch import by_torchrun, go_on_together, leave, name_for_restarts, restarted
from metarl.machine import choose_device, cores
from metarl.ranks import first, from_first, ours, together
from metarl.run import Loaded, Watch, conclude, open_run, read_config, start, train_in
from metarl.state import TrainState, moved
from metarl.tables import show_returns
from metarl.vary import build_family

if TYPE_CHECKING:
    from metarl.arguments import Train


def train(command: Train) -> int:
    """`metarl train`: run or resume, then show what adaptation gains on unseen tasks."""
    if command.processes > 1 and not by_torchrun():
        return _train_together(command)
    with together(choose_device(command.device), command.rank_timeout):
        code = _train(command)
    if by_torchrun():
        leave(code)
    return code


def _train_together(command: Train) -> int:
    """Start or find the run here, and let several processes go on with it."""
    threads = command.threads or max(cores() // command.processes, 1)
    folder, job = _open(dataclasses.replace(command, threads=threads))
    more = ["--iterations", str(job.train.iterations), "--processes", str(command.processes)]
    more += ["--device", command.device, "--rank-timeout", str(command.rank_timeout)]
    more += [f"--{word}" for word in ("quiet", "json") if getattr(command, word)]
    with real_stdout():
        return go_on_together(folder, command.processes, more)


def _train(command: Train) -> int:
    """In one process, or as one rank of several, of which the first writes and prints."""
    console = Console(quiet=command.quiet or command.json or not first())
    folder, job = _open_together(command)
    _say_who_goes_on(console, folder, job)
    _say_how_it_is_read(console, job)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    name = quote(str(folder))
    again = f"go on with: metarl train --resume {name}"
    if job.train.iterations != from_first(lambda: read_config(folder)[0].iterations):
        again += f" --iterations {job.train.iterations}"
    try:
        with _progress(console, job.train.iterations, job.state.iteration) as watch:
            state = train_in(folder, job, watch, say=console.print)
        if not first():
            return 0
        result = conclude(folder, job, state)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped and saved; {again}") from None
    except RunError as error:
        raise RunError(f"{error} The last good state is saved in {folder}.") from error
    except OSError as error:
        raise RunError(
            f"{folder}: {error.strerror or error}: free space there, or make it writable; "
            f"the last good state is saved; {again}"
        ) from error
    if command.json:
        print_json(result.to_json(job.train.algo, state.env_steps))
    show_returns(console, result, job.family)
    _show_what_is_next(console, folder, job)
    return 0


def _say_who_goes_on(console: Console, folder: Path, job: Loaded) -> None:
    if job.run.processes != ours().count:
        console.print(
            f"{folder} was started with {job.run.processes} processes, and goes on with "
            f"{ours().count}: its episodes are drawn from other streams from here on.",
            soft_wrap=True,
        )


def _say_how_it_is_read(console: Console, job: Loaded) -> None:
    """Of a Gymnasium environment: how its spaces were understood, and what is ignored of it."""
    for line in getattr(job.family, "notes", ()):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if first():
        for line in getattr(job.family, "warnings", ()):  # also with --quiet
            print(f"metarl: {line}", file=sys.stderr)


def _show_what_is_next(console: Console, folder: Path, job: Loaded) -> None:
    """Pictures, and the commands that lead on."""
    name = quote(str(folder))
    console.print(f"\nCurve: {folder / 'adaptation.png'}", soft_wrap=True)
    if (folder / "episode.gif").exists():
        console.print(f"An episode before and after: {folder / 'episode.gif'}", soft_wrap=True)
    console.print("Next:")
    known = parameters(job.family)
    outside = hasattr(job.family, "members") or any(p.beyond for p in known.values())
    film = [f"metarl watch {name}"] if can_be_filmed(job.family) else []
    look = [f"tensorboard --logdir {quote(str(folder.parent))}"]
    for line in (
        f"metarl evaluate {name} --baselines",
        f"metarl evaluate {name} --split {'extrapolate' if outside else 'train'}",
        *film,
        f"metarl train --resume {name} --iterations {2 * job.train.iterations}",
        *(look if job.run.track == "tensorboard" else []),
    ):
        console.print(f"  {line}", soft_wrap=True, highlight=False)


def _open_together(command: Train) -> tuple[Path, Loaded]:
    """The first rank makes or finds the run, the others get its settings and its state."""
    own = []

    def opened() -> tuple[Path, TrainConfig, RunConfig, TrainState]:
        folder, job = _open(command)
        own.append(job)
        return folder, job.train, job.run, job.state

    folder, train, run, state = from_first(opened)
    if own:
        return folder, own[0]
    there = moved(state, choose_device(command.device))
    return folder, Loaded(train, run, build_family(train, run), there)


def _open(command: Train) -> tuple[Path, Loaded]:
    """The folder and the run, made or found there."""
    count = ours().count if by_torchrun() else command.processes
    if command.tasks < count:
        raise UsageError(
            f"--tasks {command.tasks} with {count} processes: each needs a task; give more tasks, "
            "or fewer processes."
        )
    folder = command.resume or command.run or _default_folder(command)
    again = restarted() and (folder / "config.json").exists()
    if command.resume is None and not again:
        settings = {f.name: getattr(command, f.name) for f in dataclasses.fields(TrainConfig)}
        about = {f.name: getattr(command, f.name) for f in dataclasses.fields(RunConfig)}
        return folder, start(
            folder, TrainConfig(**settings), RunConfig(**{**about, "processes": count})
        )
    job = open_run(folder, command.device, begin=True)
    if command.iterations < job.state.iteration:
        raise UsageError(
            f"--iterations {command.iterations}: {folder} has {job.state.iteration} already; give "
            "more, or leave it out."
        )
    train = dataclasses.replace(job.train, iterations=command.iterations)
    return folder, dataclasses.replace(job, train=train)


def _default_folder(command: Train) -> Path:
    family = re.sub(r"[:/]", ".", command.family)
    name = name_for_restarts() or time.strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{family}-{command.algo}-s{command.seed}-{name}"


@contextmanager
def _progress(console: Console, total: int, done: int) -> Iterator[Watch]:
    """A progress bar with the time left and the return before and after adaptation."""
    columns = (
        TextColumn("meta-training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[gain]}"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("train", total=total, completed=done, gain="")

        def watch(state: TrainState) -> None:
            m = state.metrics
            before, after = m["train/return_before"], m["train/return_after"]
            gain = f"return {before:.1f} -> {after:.1f} after adaptation"
            progress.update(bar, completed=state.iteration, gain=gain)
            if m["train/diverged"]:
                progress.console.print(
                    f"iteration {state.iteration}: {m['train/diverged']:.0f} episodes ended as the "
                    "simulator gave no finite number"
                )
            if m["train/skipped_updates"] and state.skipped_in_a_row:
                progress.console.print(
                    f"iteration {state.iteration}: meta-gradient not finite, update skipped"
                )

        yield watch
