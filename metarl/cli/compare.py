"""`metarl compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from metarl.cli.evaluate import check_json, write_json
from metarl.comparison.compare import (
    Protocol,
    evaluate_runs,
    open_runs,
    record_of,
    rows_of,
)
from metarl.comparison.report import check_outputs, show, write
from metarl.comparison.run_groups import check_actions, check_distinct, check_fair
from metarl.envs import UsageError

if TYPE_CHECKING:
    from metarl.cli.arguments import Compare


def compare_runs(command: Compare) -> int:
    """`metarl compare RUN RUN ...`."""
    if not command.runs:
        raise UsageError("no run to compare: give the folders of some, such as runs/A runs/B.")
    check_outputs(command.out)
    check_json(command.json)
    runs = open_runs(command.runs, command.device, command.trust)
    check_distinct(runs)
    if not command.force:
        check_fair(runs, command.episodes)
        check_actions(runs, command.deterministic)
    console = Console(markup=False, quiet=str(command.json) == "-")
    steps = min(j.run.eval_steps for j in runs.values()) if command.steps is None else command.steps
    asked = (command.split, command.seed, command.tasks, command.episodes, steps)
    protocol = Protocol(*asked, command.deterministic)
    results = evaluate_runs(runs, protocol, console)
    record = record_of(rows_of(runs, results, command.episodes), results[0])
    show(console, record)
    for path in write(command.out, record, runs):
        console.print(f"Written: {path}", soft_wrap=True, highlight=False)
    write_json(command.json, record)
    return 0
