"""Figures of the evaluation of a run with each of its tasks."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metarl.envs import Choice, Family, UsageError, parameters
from metarl.envs.core.parameters import Parameter
from metarl.evaluation.evaluate import Evaluation
from metarl.evaluation.statistics import Array
from metarl.plotting.gain_map import MAX_LABELS, most_telling
from metarl.system.files import check_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES = (".png", ".svg", ".pdf")


def per_task(result: Evaluation, family: Family) -> Figure:
    """Return of each task before and after adaptation, sorted and against parameters."""
    names = most_telling(result, family)
    after = result.returns[:, -1]
    figure = new_figure(4.2 * (1 + len(names)), 4.2)
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
    """Draw two connected dots for each task, and the oracle's return."""
    before, after = result.returns[:, 0], result.returns[:, -1]
    axes.vlines(place, before, after, color="0.85", linewidth=1, zorder=1)
    axes.plot(place, before, "o", color="0.55", markersize=4, label="before")
    label = f"after {result.steps} {result.step_name}"
    axes.plot(place, after, "o", color="tab:blue", markersize=4, label=label)
    if result.oracle is not None:
        axes.plot(place, result.oracle, "_", color="tab:green", label="oracle")


def _against(axes: Axes, result: Evaluation, name: str, parameter: Parameter) -> None:
    """Draw tasks against a parameter; tasks with the same value of a `Choice` are spread out."""
    values = np.array([p[name] for p in result.params])
    if isinstance(parameter, Choice):
        distinct, rank = np.unique(values, return_inverse=True)
        offset = np.array([np.sum(rank[:i] == r) / np.sum(rank == r) for i, r in enumerate(rank)])
        _before_and_after(axes, result, rank + 0.7 * offset - 0.35)
        every = slice(None, None, -(-len(distinct) // MAX_LABELS))
        shown = [parameter.show(v) for v in distinct[every]]
        crowded = max(map(len, shown)) * len(shown) > 40
        axes.set_xticks(np.arange(len(distinct))[every], shown, rotation=90 if crowded else 0)
    else:
        _before_and_after(axes, result, values)
        axes.set_xscale("log" if parameter.log else "linear")
    axes.set_xlabel(f"{name} ({parameter.unit})" if parameter.unit else name)


def new_figure(width: float, height: float) -> Figure:
    """A figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def check_figure(flag: str, path: Path | None) -> None:
    """Raise UsageError, before any computation, for a figure that can't be written."""
    if path and path.suffix not in FIGURES:
        raise UsageError(f"{flag} {path}: unknown ending; give one of {', '.join(FIGURES)}.")
    check_output(flag, path)


def encode(figure: Figure, ending: str) -> bytes:
    """Encode the figure as `.png`, `.svg` or `.pdf`."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format=ending.removeprefix("."))
    return file.getvalue()
