"""The figure of a comparison: return against adaptation, and against meta-training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.comparison.run_groups import Runs
from metarl.envs import UsageError
from metarl.evaluation.statistics import FEW_SEEDS, Array
from metarl.plotting.episodes import legend_below
from metarl.plotting.task_figures import new_figure
from metarl.system.files import read_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vP*X"


def comparison(record: dict[str, Any], runs: Runs) -> Figure:
    """Return against adaptation, and against meta-training if the runs recorded it."""
    rows = record["rows"]
    curves = [[c for f in row["runs"] if len(c := _curve(Path(f) / "metrics.csv"))] for row in rows]
    panels = 2 if any(map(len, curves)) else 1
    figure = new_figure(1.0 + 4.9 * panels, 4.4)
    adapting, *training = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
    for i, row in enumerate(rows):
        color, seeds = f"C{i % 10}", len(row["seeds"])
        label = f"{row['algorithm']} ({seeds} seeds)" if seeds > 1 else row["algorithm"]
        label += f", 95 % {row['intervals']}"
        low, high = np.array(row["return_ci95"]).T
        style = {"marker": MARKERS[i % len(MARKERS)], "color": color, "label": label}
        adapting.fill_between(row["episodes"], low, high, color=color, alpha=0.2, linewidth=0)
        adapting.plot(row["episodes"], row["return_mean"], **style)
        if 1 < seeds < FEW_SEEDS:
            adapting.plot(row["episodes"], row["return_by_seed"], color=color, linewidth=0.7)
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
    """Add a secondary axis with environment steps."""
    both = (lambda episodes: episodes * horizon, lambda steps: steps / horizon)
    axes.secondary_xaxis("top", functions=both).set_xlabel("environment steps, at most")


def _learning(axes: Axes, curves: Sequence[Sequence[Array]]) -> None:
    """Evaluations during training: thin lines for seeds, a bold line for their mean."""
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
