"""What each command does, and how it is shown."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from envs import RunError, UsageError, can_be_filmed, make_family, parameters
from metarl.bench import bench as measure
from metarl.bench_simulation import bench_simulation
from metarl.charts import check_figure, encode, per_task
from metarl.checkpoint import write_atomically
from metarl.comparison import compare, show_comparison
from metarl.config import RunConfig, TrainConfig
from metarl.evaluate import evaluate as judge
from metarl.listing import usable
from metarl.machine import choose_device
from metarl.run import Loaded, Watch, conclude, open_run, read_config, start, train_in
from metarl.state import TrainState
from metarl.tables import show_returns, show_simulation
from metarl.worst import show_worst

if TYPE_CHECKING:
    from metarl.arguments import Bench, Evaluate, Train


def train(command: Train) -> int:
    """`metarl train`: run or resume, then show what adaptation gains on unseen tasks."""
    console = Console(quiet=command.quiet or command.json)
    folder, job = _open(command)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    name = quote(str(folder))
    again = f"go on with: metarl train --resume {name}"
    if job.train.iterations != read_config(folder)[0].iterations:
        again += f" --iterations {job.train.iterations}"
    try:
        with _progress(console, job.train.iterations, job.state.iteration) as watch:
            state = train_in(folder, job, watch)
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
        print(json.dumps(result.to_json(job.train.algo, state.env_steps)))
    show_returns(console, result, job.family)
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
    return 0


def _open(command: Train) -> tuple[Path, Loaded]:
    """The folder and the run, made or found there."""
    if command.resume is None:
        settings = {f.name: getattr(command, f.name) for f in dataclasses.fields(TrainConfig)}
        about = {f.name: getattr(command, f.name) for f in dataclasses.fields(RunConfig)}
        folder = command.run or _default_folder(command)
        return folder, start(folder, TrainConfig(**settings), RunConfig(**about))
    job = open_run(command.resume, command.device, begin=True)
    if command.iterations < job.state.iteration:
        raise UsageError(
            f"--iterations {command.iterations}: {command.resume} has {job.state.iteration} "
            "already; give more, or leave it out."
        )
    train = dataclasses.replace(job.train, iterations=command.iterations)
    return command.resume, dataclasses.replace(job, train=train)


def _default_folder(command: Train) -> Path:
    family = re.sub(r"[:/]", ".", command.family)
    return (
        Path("runs") / f"{family}-{command.algo}-s{command.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    )


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


def evaluate(command: Evaluate) -> int:
    """`metarl evaluate RUN`."""
    check_figure("--plot", command.plot)
    job = open_run(command.run, command.device)
    torch.set_num_threads(job.run.threads)  # sums depend on it in their last digits
    result = judge(
        job.state.agent,
        job.family,
        command.split,
        command.tasks,
        command.episodes,
        command.steps,
        command.seed,
        job.train.task_chunk,
    )
    record = result.to_json(job.train.algo, job.state.env_steps)
    console = Console(quiet=str(command.json) == "-")
    show_returns(console, result, job.family)
    show_worst(console, command.run, job.family, result, command.worst)
    if command.plot:
        write_atomically(command.plot, encode(per_task(result, job.family), command.plot.suffix))
    if command.comparators:
        totals = compare(job.state.agent, job.family, result, command.split, command.seed)
        record["trial_totals"] = totals
        show_comparison(console, totals, len(result.mean))
    if command.baselines:
        from metarl.beside import set_beside

        record |= set_beside(command, job, result, console)
    write_json(command.json, record)
    return 0


def write_json(where: Path | None, record: dict[str, Any]) -> None:
    """The record in a file, or with `-` on stdout."""
    if str(where) == "-":
        print(json.dumps(record))
    elif where:
        try:
            where.write_text(json.dumps(record, indent=1) + "\n")
        except OSError as error:
            raise UsageError(
                f"--json {where}: {error.strerror}; give a file in a writable folder."
            ) from error


def bench(command: Bench) -> int:
    """`metarl bench`."""
    if command.workload == "sim":
        names = command.families or tuple(usable())
        record = bench_simulation(
            [make_family(name) for name in names], command.repeats, command.threads
        )
        write_json(command.json, record)
        if str(command.json) != "-":
            show_simulation(Console(), record)
        return 0
    record = measure(
        command.workload, command.repeats, command.threads, choose_device(command.device)
    )
    write_json(command.json, record)
    if str(command.json) == "-":
        return 0
    console = Console()
    console.print(f"{command.workload}: one meta-iteration, median of {command.repeats}")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("phase")
    table.add_column("ms", justify="right")
    for phase, seconds in record["phases"].items():
        table.add_row(phase, f"{1e3 * seconds:.1f}")
    table.add_row("all", f"{1e3 * record['seconds_per_iteration']:.1f}")
    console.print(table)
    console.print(
        f"{record['env_steps_per_second']:,.0f} environment steps/s, "
        f"peak memory {record['peak_rss_mb']:.0f} MB, "
        f"{record['threads']} threads, {record['device']}"
    )
    return 0
