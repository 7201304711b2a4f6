"""What the commands draw, as figures of matplotlib that need no screen.

Each function takes what `metarl.train`, `metarl.open_run` and `metarl.evaluate` return. Save a
figure with its `savefig`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from metarl.baselines import budget_curve as drawing
from metarl.baselines.baselines import Baseline
from metarl.baselines.verdict import Scale
from metarl.comparison.compare import record_of, rows_of
from metarl.comparison.figure import comparison as comparison_figure
from metarl.envs import Family, UsageError, can_be_filmed
from metarl.evaluation.evaluate import Evaluation
from metarl.experiment.loaded_run import Run
from metarl.plotting import episodes
from metarl.plotting.episodes import Picture, adaptation_curve
from metarl.plotting.gain_map import gain_map
from metarl.plotting.task_figures import new_figure, per_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "adaptation_curve",
    "before_and_after",
    "budget_curve",
    "comparison",
    "contact_sheet",
    "gain_map",
    "per_task",
]


def comparison(runs: Sequence[Run]) -> Figure:
    """Return against adaptation of runs, seeds of the same settings as one curve.

    Raises:
        UsageError: a run without an evaluation, or evaluations on other tasks.
    """
    results = [_evaluation(run) for run in runs]
    for run, result in zip(runs, results, strict=True):
        same = (result.split, result.params) == (results[0].split, results[0].params)
        if not same or result.steps != results[0].steps:
            raise UsageError(
                f"{run.folder} was evaluated on other tasks, or steps, than {runs[0].folder}: give "
                "runs with dataclasses.replace(run, evaluation=metarl.evaluate(...))."
            )
    every = {run.folder: run for run in runs}
    if len(every) < len(runs):
        raise UsageError("a run is given twice: leave out one.")
    return comparison_figure(record_of(rows_of(every, results, None), results[0]), every)


def _evaluation(run: Run) -> Evaluation:
    if run.evaluation is None:
        raise UsageError(
            f"{run.folder} has no evaluation of its present state: train it to its end, or give "
            "dataclasses.replace(run, evaluation=metarl.evaluate(run.agent, run.family))."
        )
    return run.evaluation


def budget_curve(
    rows: Mapping[str, Evaluation | Baseline], family: Family, title: str = ""
) -> Figure:
    """Return against the episodes and environment steps that adaptation costs.

    Args:
        rows: by their names; the first is an evaluation, whose tasks random actions play too.
    """
    first = next(iter(rows.values()))
    if not isinstance(first, Evaluation):
        raise UsageError("the first row is no Evaluation: give the agent's first.")
    oracle = math.nan if first.oracle is None else float(first.oracle.mean())
    scale = Scale(drawing.chance(first, family), oracle)
    shown = {
        name: Baseline(row.returns, row.env_steps) if isinstance(row, Evaluation) else row
        for name, row in rows.items()
    }
    title = title or f"{first.family}: {len(first.params)} {first.split} tasks"
    return drawing.budget_curve(shown, first.episodes, scale, title)


def before_and_after(
    run: Run, task: NamedTuple | None = None, steps: int | None = None, seed: int = 0
) -> list[Picture]:
    """Frames, (H, W, 3) uint8, of an episode before adaptation (left) and after (right).

    Args:
        task: one of `metarl.make_task`; by default one that training never saw.
        steps: of adaptation; by default those of the run's evaluation.
    Raises:
        UsageError: the family has no pictures.
    """
    if not can_be_filmed(run.family):
        raise UsageError(f"{run.family.name} has no pictures: give it a frame(state, task).")
    steps = run.run.eval_steps if steps is None else steps
    made = run.agent, run.family, steps, run.train.episodes, seed
    return episodes.before_and_after(*made, task=task)


def contact_sheet(frames: Sequence[Picture], count: int = 6, columns: int = 2) -> Figure:
    """Frames of a film, evenly spaced from the first to the last, as one figure."""
    shown = [
        frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))
    ]
    rows = math.ceil(len(shown) / columns)
    height, width = shown[0].shape[:2]
    figure = new_figure(4.0 * columns, 4.0 * rows * height / width)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, frame in zip(grid.flat, shown, strict=False):
        axes.imshow(frame)
    return figure
