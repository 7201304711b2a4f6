"""Returns and speeds as tables on a terminal."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from envs import Family, unseen
from metarl.evaluation import Evaluation

BAR = 7  # characters of the longest bar


def show_returns(console: Console, result: Evaluation, family: Family) -> None:
    """Return after each step of adaptation, its interval, and the gain."""
    kind = {
        "train": "as in training",
        "test": how_new(family),
        "extrapolate": "out of the training range",
    }
    title = (
        f"{result.family}: {len(result.params)} tasks {kind[result.split]}, "
        f"{result.episodes} episodes a step"
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shares = None if result.success is None else result.success.mean(axis=0)
    success = [] if shares is None else ["success"]
    for name in ("steps", "return", "95 % interval", "IQM", *success, "gain, 95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    means = [*result.mean, *([] if result.oracle is None else [result.oracle.mean()])]
    low, high = min(means), max(means)

    def bar(value: float) -> str:
        return "█" * round(BAR * (value - low) / (high - low)) if high > low else ""

    mean_ci95, gain_ci95 = result.ci95, result.gain_ci95
    for k, mean in enumerate(result.mean):
        (a, b), (c, d) = mean_ci95[k], gain_ci95[k]
        gain = f"{mean - result.mean[0]:+.2f} [{c:.2f}, {d:.2f}]" if k else ""
        share = [] if shares is None else [f"{shares[k]:.2f}"]
        row = [f"{mean:.2f}", f"[{a:.2f}, {b:.2f}]", f"{result.iqm[k]:.2f}", *share, gain]
        table.add_row(str(k), *row, bar(mean))
    if result.oracle is not None:
        best = result.oracle.mean()
        table.add_row("oracle", f"{best:.2f}", "", "", *("" for _ in success), "", bar(best))
    console.print(table)


def how_new(family: Family) -> str:
    """What test tasks are to an agent."""
    if unseen(family).startswith("none"):
        return "seen in training: there are no others"
    if alike := getattr(family, "alike", {}):
        return "held out, but " + ", ".join(
            f"{count} of {tried} values of {name} play as in training"
            for name, (count, tried) in alike.items()
        )
    return "unseen in training"


def show_simulation(console: Console, record: dict[str, Any]) -> None:
    """Steps a second of each family."""
    table = Table(box=box.SIMPLE_HEAD, title_justify="left")
    table.title = f"{record['episodes']} episodes in parallel, random policy, no learning"
    for column in ("family", "env steps/s", "AsyncVectorEnv"):
        table.add_column(column, justify="left" if column == "family" else "right")
    for name, row in record["families"].items():
        other = row.get("async_vector_env")
        table.add_row(name, f"{row['steps_per_second']:,.0f}", f"{other:,.0f}" if other else "")
    console.print(table)
    console.print(f"{record['threads']} threads")
