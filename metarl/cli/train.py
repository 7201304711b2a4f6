"""`metarl train`: start or resume a run, in one process or several."""

from __future__ import annotations

import dataclasses
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from metarl.cli.json_output import print_json, real_stdout
from metarl.cli.tables import show_returns
from metarl.config.family_record import recorded_family, texts
from metarl.config.settings import RunConfig, TrainConfig
from metarl.config.settings_file import read_config, read_settings
from metarl.config.trust import typed
from metarl.distributed.collectives import (
    broadcast_from_rank_zero,
    init_process_group,
    is_rank_zero,
    process_group,
)
from metarl.distributed.launcher import (
    by_torchrun,
    end_with_parent,
    go_on_together,
    leave,
    name_for_restarts,
    restarted,
)
from metarl.envs import RunError, UsageError, can_be_filmed, parameters, unseen
from metarl.experiment.checkpoint import checkpoints
from metarl.experiment.final_evaluation import conclude
from metarl.experiment.loaded_run import Run
from metarl.experiment.run import open_run, start
from metarl.experiment.run_folder import FolderTaken, hold, numbered, where_is
from metarl.experiment.train_run import Watch, train_in
from metarl.outer.train_state import TrainState, moved
from metarl.system.machine import choose_device, cores
from metarl.system.user_errors import report_user_errors
from metarl.tracking.run_summary import command as command_of
from metarl.training.meta_train import why_skipped

if TYPE_CHECKING:
    from metarl.cli.arguments import Train

LOG_EVERY = 5.0  # seconds between lines of progress if there is no terminal for a bar


def train(command: Train) -> int:
    """`metarl train`: start or resume a run, then show the gain by adaptation on unseen tasks."""
    if command.processes > 1 and not by_torchrun():
        return _train_together(command)
    if by_torchrun():
        end_with_parent()
    with init_process_group(choose_device(command.device), command.rank_timeout):
        code = _train(command)
    if by_torchrun():
        leave(code)
    return code


def _train_together(command: Train) -> int:
    """Create or open the run in this process, then train it with several processes."""
    threads = command.threads or max(cores() // command.processes, 1)
    with ExitStack() as held:  # released before the processes start, which lock the folder
        folder, job = _open(dataclasses.replace(command, threads=threads), held)
    more = [*_changed_flags(folder, job), "--processes", str(command.processes)]
    more += ["--device", command.device, "--rank-timeout", str(command.rank_timeout)]
    more += [f"--{word}" for word in ("quiet", "json") if getattr(command, word)]
    if job.reopening:  # the user trusts the folder: `_open` has checked it
        more.append("--trust")
    with real_stdout():
        return go_on_together(folder, command.processes, more)


def _train(command: Train) -> int:
    """Train in a single process, or as one rank; rank 0 writes and prints."""
    console = Console(markup=False, quiet=command.quiet or command.json or not is_rank_zero())
    with ExitStack() as held:
        folder, job = _open_together(command, held)
        _print_process_change(console, folder, job)
        with report_user_errors(job.family):
            _print_family_notes(console, job)
            _print_validation_note(console, job)
        flags = broadcast_from_rank_zero(lambda: _changed_flags(folder, job))
        where = _Where(folder, job.train.iterations, job.reopening, flags)
        try:
            with _progress(console, job.train.iterations, job.state.iteration) as watch:
                state = train_in(folder, job, watch, say=console.print)
            if not is_rank_zero():
                return 0
            result = conclude(folder, job, state)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"stopped; {where}") from None
        except RunError as error:
            raise RunError(f"{error} {str(where)[0].upper()}{str(where)[1:]}") from error
        except OSError as error:
            raise RunError(
                f"{folder}: {error.strerror or error}: free space there, or make it writable; "
                f"{where}"
            ) from error
    if command.json:
        print_json(result.to_json(job.train.algo, state.env_steps))
    show_returns(console, result, job.family)
    _print_next_steps(console, folder, job)
    return 0


@dataclass(frozen=True)
class _Where:
    """A sentence on what is saved of a run, and how to resume it."""

    folder: Path
    iterations: int
    trust: str  # ` --trust` if the folder names code
    flags: list[str]  # flags that differ from the settings in the folder

    def __str__(self) -> str:
        place = where_is(self.folder)
        found = checkpoints(place / "checkpoints") if place else []
        if not (place and found):
            return "nothing is saved."
        command = " ".join([f"metarl train --resume {quote(str(place))}{self.trust}", *self.flags])
        saved = int(found[-1].stem.removeprefix("step-"))
        return f"iteration {saved} of {self.iterations} is saved; resume with: {command}"


def _changed_flags(folder: Path, job: Run) -> list[str]:
    """The flags of an extended run that differ from the settings in its folder."""
    started, flags = read_config(folder)[0], []
    if job.train.iterations != started.iterations:
        flags += ["--iterations", str(job.train.iterations)]
    if job.train.lr_decay != started.lr_decay:
        flags += ["--no-lr-decay"]
    return flags


def _print_process_change(console: Console, folder: Path, job: Run) -> None:
    if job.run.processes != process_group().size:
        console.print(
            f"{folder} was started with {job.run.processes} processes and resumes with "
            f"{process_group().size}: its episodes are drawn from other streams from here on.",
            soft_wrap=True,
        )


def _print_validation_note(console: Console, job: Run) -> None:
    """Say what periodic evaluations use if no tasks are held out for validation."""
    if unseen(job.family, "validation").startswith("none"):
        console.print(
            "Evaluations during training use new draws of training tasks: none are held out for "
            "validation (--validation NAME=VALUES).",
            soft_wrap=True,
        )


def _print_family_notes(console: Console, job: Run) -> None:
    """Print how the spaces of a Gymnasium environment are interpreted, and its warnings."""
    for line in getattr(job.family, "notes", ()):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if is_rank_zero():
        for line in getattr(job.family, "warnings", ()):  # also with --quiet
            print(f"metarl: {line}", file=sys.stderr)


def _print_next_steps(console: Console, folder: Path, job: Run) -> None:
    """Print the figures and commands for next steps."""
    name = quote(str(folder))
    console.print(f"\nCurve: {folder / 'adaptation.png'}", soft_wrap=True)
    if (folder / "episode.gif").exists():
        console.print(f"An episode before and after: {folder / 'episode.gif'}", soft_wrap=True)
    console.print("Next:")
    known = parameters(job.family)
    extrapolates = hasattr(job.family, "members") or any(p.extrapolation for p in known.values())
    name += job.reopening
    watch = [f"metarl watch {name}"] if can_be_filmed(job.family) else []
    tensorboard = [f"tensorboard --logdir {quote(str(folder.parent))}"]
    for line in (
        f"metarl evaluate {name} --baselines",
        f"metarl evaluate {name} --split {'extrapolate' if extrapolates else 'train'}",
        *watch,
        _train_longer(name, job),
        *(tensorboard if job.run.track == "tensorboard" else []),
    ):
        console.print(f"  {line}", soft_wrap=True, highlight=False)


def _train_longer(name: str, job: Run) -> str:
    """The command that trains twice as long; from the start if learning rates decayed to 0."""
    twice = 2 * job.train.iterations
    if job.train.lr_decay:
        return command_of(dataclasses.replace(job.train, iterations=twice), job.run)
    return f"metarl train --resume {name} --iterations {twice}"


def _open_together(command: Train, held: ExitStack) -> tuple[Path, Run]:
    """Create or open the run on rank 0 and send its settings and state to the other ranks."""
    opened = []

    def open_on_rank_zero() -> tuple[Path, TrainConfig, RunConfig, TrainState, Mapping[str, Any]]:
        folder, job = _open(command, held)
        opened.append(job)
        return folder, job.train, job.run, job.state, job.record

    folder, train, run, state, record = broadcast_from_rank_zero(open_on_rank_zero)
    if opened:
        return folder, opened[0]
    local_state = moved(state, choose_device(command.device))
    return folder, Run(train, run, recorded_family(train, run, record), local_state, record)


def _open(command: Train, held: ExitStack) -> tuple[Path, Run]:
    """Create or open the run; `held` keeps its folder locked."""
    count = process_group().size if by_torchrun() else command.processes
    if command.tasks < count:
        raise UsageError(
            f"--tasks {command.tasks} with {count} processes: each needs a task; give more tasks, "
            "or fewer processes."
        )
    folder = command.resume or command.run or _default_folder(command)
    restart = restarted() and (folder / "config.json").exists()
    if command.resume is None and not restart:
        settings = {f.name: getattr(command, f.name) for f in dataclasses.fields(TrainConfig)}
        run_settings = {f.name: getattr(command, f.name) for f in dataclasses.fields(RunConfig)}
        run = RunConfig(**{**run_settings, "processes": count})
        folder, job = _start(folder, TrainConfig(**settings), run, command.run is None)
        held.enter_context(hold(folder))
        return folder, job
    held.enter_context(hold(folder))
    trust = command.trust or (restart and _typed_all(command, folder))
    job = open_run(folder, command.device, begin=True, trust=trust, advice="give --trust")
    if command.iterations < job.state.iteration:
        raise UsageError(
            f"--iterations {command.iterations}: {folder} has {job.state.iteration} already; give "
            "more, or leave it out."
        )
    if job.train.lr_decay and command.lr_decay and command.iterations != job.train.iterations:
        raise UsageError(
            f"--iterations {command.iterations}: learning rates of {folder} decay to 0 over the "
            f"{job.train.iterations} iterations that it was started with (--lr-decay); leave "
            "--iterations out, start a new run with it, or give --no-lr-decay too, which restores "
            "the full learning rates."
        )
    train = dataclasses.replace(job.train, iterations=command.iterations, lr_decay=command.lr_decay)
    return folder, dataclasses.replace(job, train=train)


def _start(folder: Path, train: TrainConfig, run: RunConfig, rename: bool) -> tuple[Path, Run]:
    """Start a new run; with `rename`, use the next free name if the folder exists."""
    for name in numbered(folder) if rename else ():
        with suppress(FolderTaken):
            return name, start(name, train, run)
    return folder, start(folder, train, run)


def _typed_all(command: Train, folder: Path) -> bool:
    """Whether a restarted command names all code that its folder would import."""
    found = read_settings(folder)
    return typed(command, found.train, texts(found.family))


def _default_folder(command: Train) -> Path:
    family = re.sub(r"[:/]", ".", command.family)
    name = name_for_restarts() or time.strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{family}-{command.algo}-s{command.seed}-{name}"


@contextmanager
def _progress(console: Console, total: int, done: int) -> Iterator[Watch]:
    """Show a progress bar with the remaining time and the return before and after adaptation."""
    columns = (
        TextColumn("meta-training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[gain]}"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("train", total=total, completed=done, gain="")
        start = last_line = time.monotonic()

        def watch(state: TrainState) -> None:
            nonlocal last_line
            m = state.metrics
            before, after = m["train/return_before"], m["train/return_after"]
            gain = f"return {before:.1f} -> {after:.1f} after adaptation"
            progress.update(bar, completed=state.iteration, gain=gain)
            now = time.monotonic()
            if not console.is_terminal and now - last_line >= LOG_EVERY:
                left = (now - start) * (total - state.iteration) / max(state.iteration - done, 1)
                console.print(f"iteration {state.iteration}/{total}, {left:.0f} s left, {gain}")
                last_line = now
            if m["train/diverged"]:
                progress.console.print(
                    f"iteration {state.iteration}: {m['train/diverged']:.0f} episodes ended "
                    "because the simulator diverged"
                )
            if m["train/skipped_updates"] and state.skipped_in_a_row:
                progress.console.print(
                    f"iteration {state.iteration}: {why_skipped(m)}, update skipped"
                )

        yield watch
