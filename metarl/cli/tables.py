"""Tables of returns and speeds on a terminal."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from metarl.envs import Family, Split, unseen
from metarl.evaluation.evaluate import Evaluation

BAR = 7  # characters of the longest bar, without the one that marks 0


def show_returns(console: Console, result: Evaluation, family: Family) -> None:
    """Print the return after each step of adaptation and its gain, with intervals and bars."""
    table = Table(title=_title(result, family), title_justify="left", box=box.SIMPLE_HEAD)
    table.padding = (0, 1, 0, 0)
    shares = None if result.success is None else result.success.mean(axis=0)
    success = [] if shares is None else ["success"]
    for name in ("steps", "return", "95 % interval", "IQM", *success, "gain, 95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    mean, gains = result.mean, [tuple(ends) for ends in result.gain_ci95]
    best = None if result.oracle is None else float(result.oracle.mean() - mean[0])
    reached = [0.0, *(end for ends in gains for end in ends), *([] if best is None else [best])]
    axis = min(reached), max(reached)
    for k, (a, b) in enumerate(result.ci95):
        low, high = gains[k]
        gain = f"{mean[k] - mean[0]:+.2f} [{low:.2f}, {high:.2f}]" if k else ""
        share = [] if shares is None else [f"{shares[k]:.2f}"]
        row = [f"{mean[k]:.2f}", f"[{a:.2f}, {b:.2f}]", f"{result.iqm[k]:.2f}", *share, gain]
        table.add_row(str(k), *row, bar((low, high), axis))
    if result.oracle is not None and best is not None:
        oracle = f"{result.oracle.mean():.2f}"
        row = [oracle, "", "", *("" for _ in success), "", bar((best, best), axis)]
        table.add_row("oracle", *row)
    console.print(table)


def _title(result: Evaluation, family: Family) -> str:
    how = ", most likely actions" if result.deterministic else ""
    return (
        f"{result.family}: {len(result.params)} tasks {how_new(family, result.split)}, "
        f"{result.episodes} episodes a step{how}\nintervals: {result.intervals}"
    )


def bar(ends: tuple[float, float], axis: tuple[float, float]) -> str:
    """A bar from 0 to a shaded interval; `BAR` characters span `axis`, which includes 0."""
    low, high = axis
    if low == high:
        return ""
    first, last = (min(int(BAR * (end - low) / (high - low)), BAR - 1) for end in ends)
    zero = round(BAR * -low / (high - low))
    cells = []
    for i in range(BAR):
        inside = ends[0] != ends[1] and first <= i <= last
        solid = zero <= i <= last if ends[0] > 0 else first <= i < zero if ends[1] < 0 else False
        cells.append("░" if inside else "█" if solid else " ")
    return "".join([*cells[:zero], "│", *cells[zero:]]).rstrip()


def how_new(family: Family, split: Split) -> str:
    """How tasks of a split relate to those of training, for display."""
    if split in ("train", "extrapolate"):
        return "as in training" if split == "train" else "out of the training range"
    found = unseen(family, split)
    alike = getattr(family, "alike", {}) if split == "test" else {}
    if alike and not found.startswith("none"):
        return "held out, but " + ", ".join(
            f"{count} of {tried} values of {name} behave as in training"
            for name, (count, tried) in alike.items()
        )
    if not found.startswith("none"):
        return "unseen in training" if split == "test" else "of validation, unseen in training"
    if found == "none: training sees every task":
        return "seen in training: there are no others"
    return f"of training: none are held out for {split}"


def show_simulation(console: Console, record: dict[str, Any]) -> None:
    """Print the steps per second of each family."""
    table = Table(box=box.SIMPLE_HEAD, title_justify="left")
    table.title = f"{record['episodes']} episodes in parallel, random policy, no learning"
    for column in ("family", "env steps/s", "AsyncVectorEnv"):
        table.add_column(column, justify="left" if column == "family" else "right")
    for name, row in record["families"].items():
        other = row.get("async_vector_env")
        table.add_row(name, f"{row['steps_per_second']:,.0f}", f"{other:,.0f}" if other else "")
    console.print(table)
    console.print(f"{record['threads']} threads")
