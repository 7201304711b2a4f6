"""Return against what adaptation costs, of an agent and of plain alternatives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from metarl.baselines import Baseline
from metarl.evaluation import intervals
from metarl.pictures import Picture
from metarl.verdict import Scale


def budget_curve(
    rows: Mapping[str, Baseline], episodes: int, scale: Scale, title: str, seed: int = 0
) -> Picture:
    """Mean return, with its 95 % interval over tasks, against episodes and environment steps.

    Args:
        rows: the agent first.
        episodes: of each update.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.4), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for i, (name, row) in enumerate(rows.items()):
        mean, (low, high) = row.returns.mean(axis=0), intervals(row.returns).T
        for axes, x in (
            (left, episodes * np.arange(len(mean))),
            (right, row.env_steps.mean(axis=0)),
        ):
            axes.fill_between(x, low, high, color=f"C{i}", alpha=0.2, linewidth=0)
            axes.plot(x, mean, "o-", color=f"C{i}", markersize=4, label=name)
    for axes, what in ((left, "episodes"), (right, "environment steps")):
        axes.axhline(scale.oracle, color="0.3", linestyle="--", linewidth=1)
        axes.axhline(scale.random, color="0.6", linestyle=":", linewidth=1)
        axes.set_xlabel(f"{what} in the variant, spent on adaptation")
        axes.spines[["top", "right"]].set_visible(False)
    end = right.get_xlim()[1]
    for value, name in ((scale.oracle, "oracle"), (scale.random, "random actions")):
        right.annotate(
            name, (end, value), (0, 2), textcoords="offset points", ha="right", va="bottom", size=8
        )
    left.set_ylabel("return")
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    figure.suptitle(title)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
