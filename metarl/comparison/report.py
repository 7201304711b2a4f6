"""Show a comparison of runs, and write it as JSON, CSV, LaTeX or a figure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from metarl.comparison.figure import comparison
from metarl.comparison.run_groups import Runs
from metarl.envs import UsageError
from metarl.evaluation.statistics import FEW_SEEDS
from metarl.plotting.task_figures import FIGURES, encode
from metarl.system.files import check_output, write_atomically

ALL = (".csv", ".json", ".tex", ".png", ".svg")  # written for a path without a suffix
COLUMNS = (
    "algorithm", "seeds", "env_steps_trained", "episodes", "adaptation_env_steps",
    "intervals", "return", "return_low", "return_high", "return_by_seed",
    "iqm", "iqm_low", "iqm_high", "gain", "gain_low", "gain_high",
    "improvement", "improvement_low", "improvement_high",
)  # fmt: skip


def show(console: Console, record: dict[str, Any]) -> None:
    """Print a table with a block for each algorithm and a line for each step of adaptation."""
    title = f"{record['family']}: {record['tasks']} {record['split']} tasks"
    title += ", most likely actions" if record["deterministic"] else ""
    title += "".join(f"\nintervals{line}" for line in _intervals(record["rows"]))
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("algorithm", overflow="fold")
    for name in ("episodes", "return", "95 % interval", "IQM", "gain"):
        table.add_column(name, justify="right", no_wrap=True)
    first = record["rows"][0]["algorithm"]
    rows = record["rows"]
    if len(rows) > 1:
        table.add_column("P(better)", justify="right")
    for row in rows:
        about = [row["algorithm"], _seeds(row), f"{row['env_steps_trained'] / 1e6:.3g} M steps"]
        lines = _lines(row)
        about = [*about[: len(lines) - 1], "\n".join(about[len(lines) - 1 :])]
        about += [""] * (len(lines) - len(about))
        for words, line in zip(about, lines, strict=True):
            table.add_row(words, *(line if len(rows) > 1 else line[:-1]))
        table.add_section()
    if record["oracle_mean"] is not None:
        table.add_row("oracle", "", f"{record['oracle_mean']:.2f}")
    console.print(table)
    _show_seeds(console, rows)
    for row in rows[1:]:
        p, low, high = row["probability_of_improvement"][-1]
        console.print(
            f"{row['algorithm']} gets more than {first} on a task with probability {p:.2f} "
            f"[{low:.2f}, {high:.2f}], after {row['episodes'][-1]} episodes."
            + _single(rows[0], row),
            soft_wrap=True,
            highlight=False,
        )


def _intervals(rows: list[dict[str, Any]]) -> list[str]:
    """What the intervals cover; a single line if it is the same for all rows."""
    kinds = list(dict.fromkeys(row["intervals"] for row in rows))
    if len(kinds) == 1:
        return [f": {kinds[0]}"]
    return [
        f" of {', '.join(row['algorithm'] for row in rows if row['intervals'] == kind)}: {kind}"
        for kind in kinds
    ]


def _single(*rows: dict[str, Any]) -> str:
    """A note on the rows with a single run."""
    names = [row["algorithm"] for row in rows if len(row["seeds"]) == 1]
    return f" Of {' and '.join(names)}: this run, over tasks." if names else ""


def _show_seeds(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print the return of each run of rows with few seeds."""
    for row in rows:
        if 1 < len(row["seeds"]) < FEW_SEEDS:
            each = zip(row["seeds"], row["return_by_seed"][-1], strict=True)
            console.print(
                f"{row['algorithm']} after {row['episodes'][-1]} episodes: "
                + ", ".join(f"{value:.2f} (seed {seed})" for seed, value in each),
                soft_wrap=True,
                highlight=False,
            )


def _seeds(row: dict[str, Any]) -> str:
    return f"seed {row['seeds'][0]}" if len(row["seeds"]) == 1 else f"{len(row['seeds'])} seeds"


def _lines(row: dict[str, Any]) -> list[list[str]]:
    """Episodes, return, interval, IQM, gain and probability of improvement after each step."""
    lines = []
    for k, episodes in enumerate(row["episodes"]):
        low, high = row["return_ci95"][k]
        better = ""
        if row["probability_of_improvement"] and k:
            better = f"{row['probability_of_improvement'][k][0]:.2f}"
        lines.append(
            [
                str(episodes),
                f"{row['return_mean'][k]:.2f}",
                f"[{low:.2f}, {high:.2f}]",
                f"{row['return_iqm'][k]:.2f}",
                f"{row['gain_mean'][k]:+.2f}" if k else "",
                better,
            ]
        )
    return lines


def as_csv(record: dict[str, Any]) -> str:
    """CSV with a line for each algorithm and step of adaptation; the header is `COLUMNS`."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for row in record["rows"]:
        for k, episodes in enumerate(row["episodes"]):
            better = row["probability_of_improvement"] or [("", "", "")] * (k + 1)
            lines.writerow(
                [
                    *(row["algorithm"], len(row["seeds"]), row["env_steps_trained"], episodes),
                    row["adaptation_env_steps"][k],
                    *(row["intervals"], row["return_mean"][k], *row["return_ci95"][k]),
                    ";".join(map(str, row["return_by_seed"][k])),
                    *(row["return_iqm"][k], *row["return_iqm_ci95"][k]),
                    *(row["gain_mean"][k], *row["gain_ci95"][k]),
                    *better[k],
                ]
            )
    return text.getvalue()


def as_latex(record: dict[str, Any]) -> str:
    """LaTeX rows: algorithm, seeds, million steps, return after each step, P(better)."""
    steps = len(record["rows"][0]["episodes"])
    after = " & ".join(f"return after {k}" for k in range(steps))
    lines = [f"% algorithm & seeds & million environment steps & {after} & P(better) \\\\"]
    lines[0] += f" 95 % intervals{';'.join(_intervals(record['rows']))}"
    for row in record["rows"]:
        name = row["algorithm"].replace("_", r"\_").replace("%", r"\%")
        cells = [name, str(len(row["seeds"])), f"{row['env_steps_trained'] / 1e6:.3g}"]
        columns = (row[key] for key in ("return_mean", "return_ci95", "return_by_seed"))
        for mean, (low, high), each in zip(*columns, strict=True):
            few = 1 < len(each) < FEW_SEEDS
            seeds = f" ({', '.join(f'{value:.2f}' for value in each)})" if few else ""
            cells.append(f"${mean:.2f}$ {{\\scriptsize $[{low:.2f}, {high:.2f}]${seeds}}}")
        if row["probability_of_improvement"]:
            p, low, high = row["probability_of_improvement"][-1]
            cells.append(f"${p:.2f}$ {{\\scriptsize $[{low:.2f}, {high:.2f}]$}}")
        else:
            cells.append("--")
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join(lines) + "\n"


TEXTS: dict[str, Callable[[dict[str, Any]], str]] = {
    ".csv": as_csv,
    ".json": lambda record: json.dumps(record, indent=1) + "\n",
    ".tex": as_latex,
}


def files(out: tuple[Path, ...]) -> list[Path]:
    """The files to write; a path without a suffix stands for one of each kind."""
    return [
        path
        for given in out
        for path in (
            [given.with_suffix(end) for end in ALL] if given.name and not given.suffix else [given]
        )
    ]


def check_outputs(out: tuple[Path, ...]) -> None:
    """Raise UsageError, before any computation, for a file that can't be written."""
    for path in files(out):
        check_output("--out", path)
        if path.suffix not in (*TEXTS, *FIGURES):
            known = ", ".join((*TEXTS, *FIGURES))
            raise UsageError(f"--out {path}: unknown ending {path.suffix}; give one of {known}.")


def write(out: tuple[Path, ...], record: dict[str, Any], runs: Runs) -> list[Path]:
    """Write the record in each requested format and return the paths."""
    for path in files(out):
        content = (
            TEXTS[path.suffix](record).encode()
            if path.suffix in TEXTS
            else encode(comparison(record, runs), path.suffix)
        )
        write_atomically(path, content)
    return files(out)
