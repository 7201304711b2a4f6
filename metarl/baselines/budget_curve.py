"""Figure of return against the cost of adaptation, for an agent and baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from metarl.baselines.baselines import Baseline
from metarl.baselines.verdict import Scale
from metarl.evaluation.evaluate import intervals
from metarl.evaluation.statistics import Array
from metarl.plotting.episodes import Picture


def budget_curve(rows: Mapping[str, Baseline], episodes: int, scale: Scale, title: str) -> Picture:
    """Mean return, with its 95 % interval over tasks, against episodes and environment steps.

    If all episodes have the same length, a single panel is drawn. Rows that don't adapt are
    horizontal lines.

    Args:
        rows: the agent first.
        episodes: number of episodes for each update.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    adapts = {name: row for name, row in rows.items() if row.returns.shape[1] > 1}
    env_steps = {name: row.env_steps.mean(axis=0) for name, row in adapts.items()}
    counts = {name: _episodes(row, episodes) for name, row in adapts.items()}
    panels = [(counts, "episodes")]
    if not _proportional(counts, env_steps):
        panels.append((env_steps, "environment steps"))
    figure = Figure(figsize=(4.8 * len(panels) + 1.6, 4.8), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, (x, what) in zip(axes, panels, strict=True):
        for i, (name, row) in enumerate(rows.items()):
            _draw(panel, x.get(name), row, name, f"C{i}")
        for value, name, style in (
            (scale.oracle, "oracle", "--"),
            (scale.random, "random actions", ":"),
        ):
            panel.axhline(value, color="0.4", linestyle=style, linewidth=1, label=name)
        panel.set_xlabel(f"{what} of adaptation to a task")
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("return")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(title)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _episodes(row: Baseline, episodes: int) -> Array:
    """Episodes used by each column; a recurrent policy's trials may be shorter."""
    default = episodes * np.arange(row.returns.shape[1])
    return np.array(row.chosen.get("remembered_episodes", default), dtype=np.float64)


def _proportional(episodes: Mapping[str, Array], env_steps: Mapping[str, Array]) -> bool:
    """Whether the number of environment steps per episode is constant."""
    lengths = [
        y[x > 0] / x[x > 0] for x, y in zip(episodes.values(), env_steps.values(), strict=True)
    ]
    each = np.concatenate(lengths) if lengths else np.ones(1)
    return bool(np.allclose(each, each[:1]))


def _draw(panel: Any, x: Array | None, row: Baseline, name: str, color: str) -> None:
    """Draw a curve with its interval; a horizontal line for a row that doesn't adapt."""
    mean, (low, high) = row.returns.mean(axis=0), intervals(row.returns).T
    if x is None:
        panel.axhline(mean[0], color=color, linestyle="-.", linewidth=1.2, label=name)
        panel.axhspan(low[0], high[0], color=color, alpha=0.12, linewidth=0)
        return
    panel.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    panel.plot(x, mean, "o-", color=color, markersize=4, label=name)
