"""Figure of return against the cost of adaptation, for an agent and baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.agents.rng import stream
from metarl.baselines.baselines import Baseline
from metarl.baselines.verdict import Scale
from metarl.envs import Family, sample_tasks
from metarl.evaluation.evaluate import Evaluation, intervals
from metarl.evaluation.scripted_policies import random_return
from metarl.evaluation.statistics import Array
from metarl.plotting.task_figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def budget_curve(rows: Mapping[str, Baseline], episodes: int, scale: Scale, title: str) -> Figure:
    """Mean return, with its 95 % interval over tasks, against episodes and environment steps.

    If all episodes have the same length, a single panel is drawn. Rows that don't adapt are
    horizontal lines.

    Args:
        rows: the agent first.
        episodes: number of episodes for each update.
    """
    adapts = {name: row for name, row in rows.items() if row.returns.shape[1] > 1}
    spent = {name: row.env_steps.mean(axis=0) for name, row in adapts.items()}
    played = {name: _episodes(row, episodes) for name, row in adapts.items()}
    panels = [(played, "episodes")]
    if not _proportional(played, spent):
        panels.append((spent, "environment steps"))
    figure = new_figure(4.8 * len(panels) + 1.6, 4.8)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, (x, what) in zip(axes, panels, strict=True):
        for i, (name, row) in enumerate(rows.items()):
            _draw(panel, x.get(name), row, name, f"C{i}")
        for value, name, style in (
            (scale.oracle, "oracle", "--"),
            (scale.random, "random actions", ":"),
        ):
            if np.isfinite(value):
                panel.axhline(value, color="0.4", linestyle=style, linewidth=1, label=name)
        panel.set_xlabel(f"{what} of the task, spent on adaptation")
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("return")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(title)
    return figure


def chance(result: Evaluation, family: Family) -> float:
    """Mean return of random actions on the tasks of an evaluation."""
    gen = stream(result.seed, f"evaluate {result.split} tasks", 0)
    task = sample_tasks(family, len(result.params), gen, result.split)
    noise = stream(result.seed, "random play")
    return float(random_return(family, task, result.episodes, noise).mean())


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
