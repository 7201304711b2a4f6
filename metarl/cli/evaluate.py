"""`metarl evaluate`: adapt an agent to unseen tasks and show its returns."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from rich.console import Console

from metarl.cli.evaluate_classical import compare, show_comparison
from metarl.cli.hardest_tasks import show_worst
from metarl.cli.json_output import print_json
from metarl.cli.tables import show_returns
from metarl.envs import UsageError
from metarl.experiment.final_evaluation import evaluate_run
from metarl.experiment.run import open_run
from metarl.plotting.task_figures import check_figure, encode, per_task
from metarl.system.files import check_output, write_atomically

if TYPE_CHECKING:
    from metarl.cli.arguments import Evaluate


def evaluate(command: Evaluate) -> int:
    """`metarl evaluate RUN`."""
    check_figure("--plot", command.plot)
    check_json(command.json)
    check_alike(command)
    job = open_run(command.run, command.device, trust=command.trust, advice="give --trust")
    names = ("split", "tasks", "episodes", "steps", "seed", "deterministic")
    result = evaluate_run(job, **{name: getattr(command, name) for name in names})
    record = result.to_json(job.train.algo, job.state.env_steps)
    console = Console(markup=False, quiet=str(command.json) == "-")
    if job.state.iteration < job.train.iterations:
        console.print(
            f"{command.run} has {job.state.iteration} of its {job.train.iterations} iterations; "
            f"resume with: metarl train --resume {quote(str(command.run))}"
            f"{job.resuming}",
            soft_wrap=True,
        )
    show_returns(console, result, job.family)
    show_worst(console, command.run, job.family, result, command.worst, job.reopening)
    if command.plot:
        write_atomically(command.plot, encode(per_task(result, job.family), command.plot.suffix))
    if command.comparators:
        totals = compare(job.state.agent, job.family, result, command.split, command.seed)
        record["trial_totals"] = totals
        show_comparison(console, totals, len(result.mean))
    if command.baselines:
        from metarl.cli.evaluate_baselines import evaluate_baselines

        record |= evaluate_baselines(command, job, result, console)
    write_json(command.json, record)
    return 0


def check_alike(command: Evaluate) -> None:
    """Raise UsageError where an agent's likeliest actions would be compared with sampled ones."""
    for flag in ("baselines", "comparators"):
        if command.deterministic and getattr(command, flag):
            raise UsageError(
                f"--deterministic with --{flag}: they are evaluated with sampled actions; leave "
                "out one of them."
            )


def check_json(where: Path | None) -> None:
    """Raise UsageError, before any computation, for a record that can't be written."""
    if str(where) != "-":
        check_output("--json", where)


def write_json(where: Path | None, record: dict[str, Any]) -> None:
    """Write the record to a file, or to stdout for `-`."""
    if str(where) == "-":
        print_json(record)
    elif where:
        try:
            write_atomically(where, (json.dumps(record, indent=1) + "\n").encode())
        except OSError as error:
            raise UsageError(
                f"--json {where}: {error.strerror}; give a file in a writable folder."
            ) from error
