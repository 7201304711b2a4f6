"""`metarl bench` and its output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from metarl.bench.op_counts import operations, trace
from metarl.bench.simulators import bench_simulation
from metarl.bench.workloads import bench as measure
from metarl.bench.workloads import settings
from metarl.cli.evaluate import check_json, write_json
from metarl.cli.family_records import usable
from metarl.cli.tables import show_simulation
from metarl.envs import UsageError, make_family
from metarl.system.files import DAMAGED, RECORD, check_output, read_json
from metarl.system.machine import choose_device

if TYPE_CHECKING:
    from metarl.cli.arguments import Bench


def bench(command: Bench) -> int:
    """Run a benchmark and show its record; with `--json -`, print only the record."""
    check_json(command.json)
    console = Console(markup=False, quiet=str(command.json) == "-")
    if command.workload == "sim":
        names = command.families or tuple(usable())
        record = bench_simulation(
            [make_family(name) for name in names], command.repeats, command.threads
        )
        write_json(command.json, record)
        show_simulation(console, record)
        return 0
    cfg = settings(command.workload, command.repeats, command.tasks, command.task_chunk)
    device, before = choose_device(command.device), _read(command.compare, command.workload)
    check_output("--profile", command.profile)
    if command.threads:
        torch.set_num_threads(command.threads)
    if command.ops:
        record = {"workload": command.workload, "operations": operations(cfg)}
        write_json(command.json, record)
        _show_operations(console, record["operations"])
        return 0
    record = measure(command.workload, cfg, device, command.compile)
    write_json(command.json, record)
    _show(console, record, before)
    if command.profile:
        rows = trace(cfg, device, command.profile, command.compile)
        _show_most_expensive(console, rows, command.profile)
    return 0


def _read(path: Path | None, workload: str) -> dict[str, Any] | None:
    """Read an earlier record of the same workload."""
    if path is None:
        return None
    try:
        record: dict[str, Any] = read_json(path, RECORD)
        record["phases"].items()
        other: str = record["workload"]
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--compare {path}: {reason}; give a file of --json.") from error
    except (*DAMAGED, KeyError, AttributeError, TypeError) as error:
        raise UsageError(
            f"--compare {path}: not a record of bench; give a file of --json."
        ) from error
    if other != workload:
        raise UsageError(f"--compare {path}: it is of {other}; give a record of {workload}.")
    return record


def _show(console: Console, record: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Show each phase with its lower bound, and the ratio to an earlier record."""
    how = "compiled" if record["compiled"] else "eager"
    console.print(
        f"{record['workload']}: one meta-iteration of {record['tasks']} tasks, medians, {how}"
    )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("phase")
    for name in ("ms", "lower bound, ms", "ratio", *(["to before"] if before else [])):
        table.add_column(name, justify="right")
    bounds = record["lower_bound"]
    now = {**record["phases"], "all": record["seconds_per_iteration"]}
    then = {**before["phases"], "all": before["seconds_per_iteration"]} if before else {}
    for phase, seconds in now.items():
        bound = sum(bounds.values()) if phase == "all" else bounds.get(phase)
        row = [f"{1e3 * bound:.1f}", f"{seconds / bound:.2f}"] if bound else ["", ""]
        if before:
            row.append(f"{seconds / then[phase]:.2f}" if then.get(phase) else "")
        table.add_row(phase, f"{1e3 * seconds:.1f}", *row)
    console.print(table)
    console.print(
        f"{record['env_steps_per_second']:,.0f} environment steps/s, "
        f"peak memory {record['peak_rss_mb']:.0f} MB, "
        f"{record['threads']} threads, {record['device']}"
    )
    if record["compiled"]:
        console.print(f"first iteration, with compilation: {record['first_iteration']:.1f} s")


def _show_operations(console: Console, counts: dict[str, dict[str, int]]) -> None:
    console.print("operations dispatched in eager mode, without views")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("of")
    table.add_column("all", justify="right")
    table.add_column("most frequent")
    for what, names in counts.items():
        most = sorted(names.items(), key=lambda item: -item[1])[:6]
        table.add_row(what, str(sum(names.values())), ", ".join(f"{k} {n}" for k, n in most))
    console.print(table)


def _show_most_expensive(console: Console, rows: list[tuple[str, float, int]], path: Path) -> None:
    table = Table(title="most expensive operations", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("operation")
    table.add_column("share", justify="right")
    table.add_column("calls", justify="right")
    for name, share, calls in rows:
        table.add_row(name, f"{share:.1%}", str(calls))
    console.print(table)
    console.print(f"Trace of one meta-iteration: {path} (opens in https://ui.perfetto.dev)")
