"""`metarl train`: start or resume a run, in one process or several."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from rich.console import Console

from metarl.cli.json_output import print_json, real_stdout
from metarl.cli.tables import show_returns
from metarl.config.family_record import recorded_family, texts
from metarl.config.named_code import trackers_in
from metarl.config.settings import RunConfig, TrainConfig
from metarl.config.settings_file import read_config, read_settings
from metarl.config.trust import check_hooks_trusted, typed
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
    restarted,
)
from metarl.envs import RunError, UsageError, can_be_filmed, parameters, unseen
from metarl.experiment.checkpoint import checkpoints
from metarl.experiment.loaded_run import Run
from metarl.experiment.progress import progress
from metarl.experiment.run import open_run
from metarl.experiment.run_folder import hold, where_is
from metarl.experiment.train import default_folder, start_run, train_and_evaluate
from metarl.outer.train_state import TrainState, moved
from metarl.system.machine import choose_device, cores
from metarl.system.user_errors import report_user_errors
from metarl.tracking.run_summary import command as command_of

if TYPE_CHECKING:
    from metarl.cli.arguments import Train


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
    if job.resuming:  # the user trusts the folder: `_open` has checked it
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
        where = _Where(folder, job.train.iterations, job.resuming, flags)
        try:
            with progress(console, job.train.iterations, job.state.iteration) as watch:
                job = train_and_evaluate(job, watch, say=partial(console.print, soft_wrap=True))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"stopped; {where}") from None
        except RunError as error:
            raise RunError(f"{error} {str(where)[0].upper()}{str(where)[1:]}") from error
        except OSError as error:
            raise RunError(
                f"{folder}: {error.strerror or error}: free space there, or make it writable; "
                f"{where}"
            ) from error
    result = job.evaluation
    if result is None:  # the first rank alone evaluates
        return 0
    if command.json:
        print_json(result.to_json(job.train.algo, job.state.env_steps))
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
    (started, run), flags = read_config(folder), []
    if job.train.iterations != started.iterations:
        flags += ["--iterations", str(job.train.iterations)]
    if job.train.lr_decay != started.lr_decay:
        flags += ["--no-lr-decay"]
    if job.run.callback != run.callback:
        flags += [word for name in job.run.callback for word in ("--callback", name)]
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
    longer = _train_longer(name + job.resuming, job)
    name += job.reopening
    watch = [f"metarl watch {name}"] if can_be_filmed(job.family) else []
    tensorboard = [f"tensorboard --logdir {quote(str(folder.parent))}"]
    for line in (
        f"metarl evaluate {name} --baselines",
        f"metarl evaluate {name} --split {'extrapolate' if extrapolates else 'train'}",
        *watch,
        longer,
        *(tensorboard if "tensorboard" in trackers_in(job.run.track) else []),
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
    family = recorded_family(train, run, record)
    return folder, Run(train, run, family, local_state, record, folder=folder, trusted=True)


def _open(command: Train, held: ExitStack) -> tuple[Path, Run]:
    """Create or open the run; `held` keeps its folder locked."""
    count = process_group().size if by_torchrun() else command.processes
    if command.tasks < count:
        raise UsageError(
            f"--tasks {command.tasks} with {count} processes: each needs a task; give more tasks, "
            "or fewer processes."
        )
    folder = command.resume or command.run or default_folder(command)
    restart = restarted() and (folder / "config.json").exists()
    if command.resume is None and not restart:
        settings = {f.name: getattr(command, f.name) for f in dataclasses.fields(TrainConfig)}
        about = {f.name: getattr(command, f.name) for f in dataclasses.fields(RunConfig)}
        run = RunConfig(**{**about, "processes": count})
        job = start_run(command.run, TrainConfig(**settings), run)
        held.enter_context(hold(job.folder))
        return job.folder, job
    held.enter_context(hold(folder))
    trust = command.trust or (restart and _typed_all(command, folder))
    advice = "give --trust"
    job = open_run(folder, command.device, begin=True, trust=trust, advice=advice)
    run = dataclasses.replace(job.run, callback=command.callback)
    check_hooks_trusted(folder, run, trust, advice)
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
    return folder, dataclasses.replace(job, train=train, run=run)


def _typed_all(command: Train, folder: Path) -> bool:
    """Whether a restarted command names all code that its folder would import."""
    found = read_settings(folder)
    return typed((command, command), (found.train, found.run), texts(found.family))
