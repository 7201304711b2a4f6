"""`metarl evaluate --baselines`: compare an agent with baselines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from metarl.agents.learners.recurrent_agent import MemoryAgent
from metarl.baselines.baseline_spec import BaselineSpec
from metarl.baselines.baselines import TOLD, Baseline, baselines
from metarl.baselines.budget_curve import budget_curve, chance
from metarl.baselines.verdict import Scale, verdict
from metarl.evaluation.evaluate import Evaluation, evaluate
from metarl.evaluation.statistics import interval
from metarl.experiment.loaded_run import Run
from metarl.plotting.episodes import pixels, png
from metarl.system.files import write_atomically
from metarl.training.meta_train import new_agent

if TYPE_CHECKING:
    from metarl.cli.arguments import Evaluate


def evaluate_baselines(
    command: Evaluate, job: Run, result: Evaluation, console: Console
) -> dict[str, Any]:
    """Train and evaluate the baselines of an evaluation, show them, and return their record.

    Baselines are cached in `baselines/` next to the run, for all runs of the family there.
    """
    recurrent = isinstance(job.state.agent, MemoryAgent)  # adapts after every episode
    env_steps = command.baseline_steps or max(job.state.env_steps, 1)
    spec = BaselineSpec(
        train=job.train,
        run=job.run,
        split=result.split,
        seed=result.seed,
        episodes=result.episodes,
        budget=1 if recurrent else result.episodes,
        steps=result.returns.shape[1] - 1,
        params=tuple(result.params),
        env_steps=env_steps,
        told_steps=command.told_steps or env_steps,
        oracle_steps=command.oracle_steps if result.oracle is None else 0,
        record=job.record,
    )
    found = _play(spec, command.run.absolute().parent / "baselines", console)
    oracle = result.oracle if result.oracle is not None else found.pop("oracle").returns[:, 0]
    if not recurrent:
        found = {f"{job.train.algo} from scratch": _from_scratch(job, result), **found}
    agent = Baseline(result.returns, result.env_steps)
    rows = {f"{job.train.algo}, meta-trained": agent, **found}
    scale = Scale(chance(result, job.family), float(oracle.mean()))
    # The verdict compares only with baselines that do not know the task.
    words = verdict(result, {k: row for k, row in found.items() if k != TOLD}, scale)
    _show(console, rows, scale)
    _show_choices(console, found, job.state.env_steps)
    console.print(words, soft_wrap=True, highlight=False)
    picture = command.run / f"baselines-{result.split}.png"
    title = f"{result.family}: {len(result.params)} {result.split} tasks"
    curve = budget_curve(rows, spec.budget, scale, title)
    write_atomically(picture, png(pixels(curve)))
    console.print(f"\nReturn against adaptation: {picture}", soft_wrap=True)
    return {**_record(rows, scale, words), "baseline_env_steps": env_steps}


def _play(spec: BaselineSpec, folder: Path, console: Console) -> dict[str, Baseline]:
    columns = (TextColumn("baselines"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("baselines", total=None)

        def report(done: int, asked: int) -> None:
            progress.update(bar, completed=done, total=asked)

        return baselines(spec, folder, report)


def _from_scratch(job: Run, result: Evaluation) -> Baseline:
    """The inner algorithm from untrained weights, on the same tasks and random streams."""
    agent = new_agent(job.train, job.family, job.state.agent.device)
    steps = result.returns.shape[1] - 1
    scratch = evaluate(
        agent,
        job.family,
        result.split,
        len(result.params),
        result.episodes,
        steps,
        result.seed,
        job.train.task_chunk,
    )
    return Baseline(scratch.returns, scratch.env_steps)


def _show(console: Console, rows: Mapping[str, Baseline], scale: Scale) -> None:
    """Print returns after 0 ... K updates, and the last one as a share of the oracle's."""
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("", no_wrap=True)
    steps = max(row.returns.shape[1] for row in rows.values())
    for k in range(steps):
        table.add_column(str(k), justify="right", no_wrap=True)
    for name in ("95 % interval", "of oracle"):
        table.add_column(name, justify="right", no_wrap=True)
    largest = max(abs(row.returns.mean(axis=0)).max() for row in rows.values())
    digits = 2 if largest < 100 else 1 if largest < 1000 else 0  # to fit in 80 columns
    for name, row in rows.items():
        low, high = interval(row.returns[:, -1])
        share = scale.share(row.returns[:, -1])
        means = [f"{mean:.{digits}f}" for mean in row.returns.mean(axis=0)]
        table.add_row(
            name,
            *means,
            *[""] * (steps - len(means)),  # for a row that doesn't adapt
            f"[{low:.{digits}f}, {high:.{digits}f}]",
            "" if share is None else f"{share:.0%}",
        )
    for name, value in (("random actions", scale.random), ("oracle", scale.oracle)):
        blank = [""] * (steps - 1)
        table.add_row(name, f"{value:.{digits}f}", *blank, "", f"{name == 'oracle':.0%}")
    console.print(table)


def _show_choices(console: Console, rows: Mapping[str, Baseline], env_steps: int) -> None:
    """Print training budgets and the settings tuned on training variants."""
    console.print(
        f"The agent was trained for {env_steps:,} environment steps. Tuned on training tasks:"
    )
    for name, row in rows.items():
        if row.chosen:
            words = [f"{k.replace('_', ' ')} {_shown(v)}" for k, v in row.chosen.items()]
            console.print(f"  {name}: {', '.join(words)}", soft_wrap=True, highlight=False)
    console.print()


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _record(rows: Mapping[str, Baseline], scale: Scale, words: str) -> dict[str, Any]:
    """The JSON record; lists are over updates 0 ... K."""
    found = {
        name: {
            "return_mean": row.returns.mean(axis=0).tolist(),
            "return_ci95": [interval(column) for column in row.returns.T],
            "adaptation_env_steps": row.env_steps.mean(axis=0).tolist(),
            "share_of_oracle": scale.share(row.returns[:, -1]),
            "per_task": row.returns.tolist(),
            **({"chosen": dict(row.chosen)} if row.chosen else {}),
        }
        for name, row in rows.items()
    }
    return {
        "baselines": found,
        "random_mean": scale.random,
        "oracle_mean": scale.oracle,
        "verdict": words,
    }
