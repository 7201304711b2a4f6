"""Figures of evaluations: runs side by side, and every task of one run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs import Choice, Family, UsageError, parameters
from envs.parameter import Parameter
from metarl.evaluation import Evaluation
from metarl.files import check_output, read_table
from metarl.gain_map import MAX_LABELS, most_telling
from metarl.grouping import Runs
from metarl.pictures import legend_below
from metarl.statistics import FEW_SEEDS, Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vP*X"
FIGURES = (".png", ".svg", ".pdf")


def comparison(record: dict[str, Any], runs: Runs) -> Figure:
    """Return against adaptation, and how it rose in meta-training where the runs recorded that."""
    rows = record["rows"]
    curves = [[c for f in row["runs"] if len(c := _curve(Path(f) / "metrics.csv"))] for row in rows]
    panels = 2 if any(map(len, curves)) else 1
    figure = _figure(1.0 + 4.9 * panels, 4.4)
    adapting, *training = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
    for i, row in enumerate(rows):
        colour, seeds = f"C{i % 10}", len(row["seeds"])
        label = f"{row['algorithm']} ({seeds} seeds)" if seeds > 1 else row["algorithm"]
        label += f", 95 % {row['intervals']}"
        low, high = np.array(row["return_ci95"]).T
        style = {"marker": MARKERS[i % len(MARKERS)], "color": colour, "label": label}
        adapting.fill_between(row["episodes"], low, high, color=colour, alpha=0.2, linewidth=0)
        adapting.plot(row["episodes"], row["return_mean"], **style)
        if 1 < seeds < FEW_SEEDS:
            adapting.plot(row["episodes"], row["return_by_seed"], color=colour, linewidth=0.7)
    if record["oracle_mean"] is not None:
        style = {"color": "0.4", "linestyle": "--", "linewidth": 1, "label": "oracle"}
        adapting.axhline(record["oracle_mean"], **style)
    adapting.set_xlabel("episodes of adaptation to a task")
    adapting.set_ylabel(f"return on {record['tasks']} {record['split']} tasks")
    _count_steps(adapting, next(iter(runs.values())).family.horizon)
    legend_below(figure, adapting)
    for axes in training:
        _learning(axes, curves)
    figure.suptitle(f"{record['family']}: mean and 95 % interval")
    return figure


def _count_steps(axes: Axes, horizon: int) -> None:
    """A second axis above, for episodes below."""
    both = (lambda episodes: episodes * horizon, lambda steps: steps / horizon)
    axes.secondary_xaxis("top", functions=both).set_xlabel("environment steps, at most")


def _learning(axes: Axes, curves: Sequence[Sequence[Array]]) -> None:
    """Evaluations during training: each seed faint, the mean of an algorithm's seeds bold."""
    for i, seeds in enumerate(curves):
        for curve in seeds:
            axes.plot(*curve.T, color=f"C{i % 10}", linewidth=0.8, alpha=0.5)
        if seeds:
            common = np.mean([c[: min(map(len, seeds))] for c in seeds], axis=0)
            axes.plot(*common.T, MARKERS[i % len(MARKERS)] + "-", color=f"C{i % 10}", markersize=4)
    axes.set_xlim(left=0)
    axes.set_xlabel("environment steps of meta-training, millions")
    axes.set_title("after adaptation, while training", fontsize="medium")


def _curve(path: Path) -> Array:
    """Million environment steps and return of each evaluation during training, (evaluations, 2)."""
    if not path.exists():
        return np.zeros((0, 2))
    header, *rows = read_table(path) or [[]]
    names = [name for name in header if name.startswith("eval/return_step_")]
    if not names:
        return np.zeros((0, 2))
    named = [dict(zip(header, row, strict=False)) for row in rows]
    try:
        points = [
            (float(r["env_steps"]) / 1e6, float(r[names[-1]])) for r in named if r.get(names[-1])
        ]
    except (ValueError, KeyError, IndexError) as error:
        raise UsageError(f"{path} is damaged ({error!r}): restore it, or move it away.") from error
    return np.array(points).reshape(-1, 2)


def per_task(result: Evaluation, family: Family) -> Figure:
    """Return of each task before and after adaptation: sorted, and against telling parameters."""
    names = most_telling(result, family)
    after = result.returns[:, -1]
    figure = _figure(4.2 * (1 + len(names)), 4.2)
    first, *others = figure.subplots(1, 1 + len(names), squeeze=False, sharey=True)[0]
    _before_and_after(first, result, after.argsort().argsort().astype(float))
    first.set_xlabel("tasks, sorted by the return after adaptation")
    first.set_ylabel(f"return, mean of {result.episodes} episodes")
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    for axes, name in zip(others, names, strict=True):
        _against(axes, result, name, parameters(family)[name])
    figure.suptitle(f"{result.family}: {len(result.params)} {result.split} tasks")
    return figure


def _before_and_after(axes: Axes, result: Evaluation, place: Array) -> None:
    """Two dots for each task, joined; and the oracle's return."""
    before, after = result.returns[:, 0], result.returns[:, -1]
    axes.vlines(place, before, after, color="0.85", linewidth=1, zorder=1)
    axes.plot(place, before, "o", color="0.55", markersize=4, label="before")
    label = f"after {result.steps} {result.step_name}"
    axes.plot(place, after, "o", color="tab:blue", markersize=4, label=label)
    if result.oracle is not None:
        axes.plot(place, result.oracle, "_", color="tab:green", label="oracle")


def _against(axes: Axes, result: Evaluation, name: str, parameter: Parameter) -> None:
    """Tasks over a parameter; those of the same value of a `Choice` stand beside each other."""
    values = np.array([p[name] for p in result.params])
    if isinstance(parameter, Choice):
        distinct, rank = np.unique(values, return_inverse=True)
        beside = np.array([np.sum(rank[:i] == r) / np.sum(rank == r) for i, r in enumerate(rank)])
        _before_and_after(axes, result, rank + 0.7 * beside - 0.35)
        every = slice(None, None, -(-len(distinct) // MAX_LABELS))
        shown = [parameter.show(v) for v in distinct[every]]
        crowded = max(map(len, shown)) * len(shown) > 40
        axes.set_xticks(np.arange(len(distinct))[every], shown, rotation=90 if crowded else 0)
    else:
        _before_and_after(axes, result, values)
        axes.set_xscale("log" if parameter.log else "linear")
    axes.set_xlabel(f"{name} ({parameter.unit})" if parameter.unit else name)


def _figure(width: float, height: float) -> Figure:
    """One that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def check_figure(flag: str, path: Path | None) -> None:
    """Raise UsageError, before anything is computed, for a figure that can't be written."""
    if path and path.suffix not in FIGURES:
        raise UsageError(f"{flag} {path}: unknown ending; give one of {', '.join(FIGURES)}.")
    check_output(flag, path)


def encode(figure: Figure, ending: str) -> bytes:
    """The figure as a file: `.png`, `.svg` or `.pdf`."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format=ending.removeprefix("."))
    return file.getvalue()
