"""Compare runs on the same unseen tasks with the same budget, grouping seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress

from metarl.comparison.run_groups import (
    TASK_SETTINGS,
    Runs,
    episodes_per_step,
    group,
    labels,
    trained,
)
from metarl.config.settings_file import read_settings
from metarl.envs import Family, Split, UsageError
from metarl.evaluation.result import Evaluation
from metarl.evaluation.statistics import (
    Array,
    difference_interval,
    interval,
    iqm,
    iqm_interval,
    probability_of_improvement,
)
from metarl.experiment.final_evaluation import evaluate_run
from metarl.experiment.loaded_run import Run
from metarl.experiment.run import open_run


class Protocol(NamedTuple):
    """The evaluation that all runs share."""

    split: Split
    seed: int
    tasks: int
    episodes: int | None  # of each task for each step; None for each run's setting
    steps: int
    deterministic: bool = False


@dataclass(frozen=True)
class Row:
    """S runs that differ only in their seed, on the M tasks that all rows share."""

    label: str
    runs: tuple[Path, ...]
    seeds: tuple[int, ...]
    env_steps: int  # of meta-training, mean over runs
    episodes: int  # of a task, for each step of adaptation
    results: tuple[Evaluation, ...]  # S

    @property
    def returns(self) -> Array:
        """Returns, (S, M, K + 1)."""
        return np.stack([result.returns for result in self.results])

    @property
    def intervals(self) -> str:
        """What the 95 % intervals cover, for display."""
        one = self.results[0]
        if len(self.results) == 1:
            return one.intervals
        return f"over seeds and {'tasks' if one.task is None else 'episodes'}"

    def record(self, first: Row) -> dict[str, Any]:
        """JSON record over runs and tasks, lists over steps 0 ... K; compared with `first`."""
        steps = range(self.returns.shape[-1])
        at, task = [self.returns[..., k] for k in steps], self.results[0].task
        means, gains = self._ends()
        env_steps = np.stack([result.env_steps for result in self.results])
        return {
            "algorithm": self.label,
            "runs": [str(folder) for folder in self.runs],
            "seeds": list(self.seeds),
            "env_steps_trained": self.env_steps,
            "episodes": [k * self.episodes for k in steps],
            "adaptation_env_steps": env_steps.mean(axis=(0, 1)).tolist(),
            "intervals": self.intervals,
            "return_mean": [float(x.mean()) for x in at],
            "return_ci95": means,
            "return_by_seed": [x.mean(axis=1).tolist() for x in at],
            "return_iqm": [iqm(x) for x in at],
            "return_iqm_ci95": [iqm_interval(x, task) for x in at],
            "gain_mean": [float((x - at[0]).mean()) for x in at],
            "gain_ci95": gains,
            "probability_of_improvement": None
            if self is first
            else [
                probability_of_improvement(x, first.returns[..., k], task) for k, x in enumerate(at)
            ],
        }

    def _ends(self) -> tuple[list[list[float]], list[list[float]]]:
        """Intervals of the return and the gain after each step; for one run, those of its tasks."""
        one, *others = self.results
        if not others:
            return one.ci95.tolist(), one.gain_ci95.tolist()
        all_bounds = np.array([result.bounds for result in self.results])
        bounds = float(all_bounds.min()), float(all_bounds.max())
        at = np.moveaxis(self.returns, -1, 0)
        means = [interval(x, bounds, one.task) for x in at]
        gains = [difference_interval(x, at[0], bounds, one.task) for x in at[1:]]
        return list(map(list, means)), [[0.0, 0.0], *map(list, gains)]


def open_runs(folders: Sequence[Path], device: str | None, trust: bool) -> dict[Path, Run]:
    """Open runs; runs on the same family share one instance and its worker processes.

    Raises:
        UsageError: a folder is not a run, is given twice, or has not been trained.
    """
    runs: dict[Path, Run] = {}
    families: dict[str, Family] = {}
    for folder in folders:
        if folder in runs:
            raise UsageError(f"{folder} is given twice: leave out one.")
        found = read_settings(folder)
        named = {name: getattr(found.train, name) for name in TASK_SETTINGS}
        key = json.dumps({**named, "record": found.family}, sort_keys=True)
        runs[folder] = open_run(
            folder, device, families.get(key), trust=trust, advice="give --trust"
        )
        families[key] = runs[folder].family
        if runs[folder].state.iteration == 0:
            raise UsageError(
                f"{folder} has not been trained: start with `metarl train --resume "
                f"{quote(str(folder))}{runs[folder].resuming}`, or leave it out."
            )
    return runs


def evaluate_runs(runs: Runs, protocol: Protocol, console: Console) -> list[Evaluation]:
    """Evaluate each run on the same tasks, reusing its final evaluation if it matches.

    Tasks are those of the first run's family; with `--force`, families may differ.
    """
    family = next(iter(runs.values())).family
    for folder, job in runs.items():
        check_spaces(folder, job, family)
    with Progress(*Progress.get_default_columns(), console=console, transient=True) as progress:
        return [
            _evaluate(job, family, protocol)
            for job in progress.track(runs.values(), description="evaluating")
        ]


def protocol_of(own: Evaluation) -> tuple[Split, int, int, int, bool]:
    """What an evaluation measured, except its number of steps."""
    return own.split, own.seed, own.episodes, len(own.params), own.deterministic


def _evaluate(job: Run, family: Family, protocol: Protocol) -> Evaluation:
    split, seed, tasks, episodes, steps, deterministic = protocol
    episodes = episodes or job.train.episodes
    asked = (split, seed, episodes, tasks, deterministic)
    own = job.evaluation if job.family is family else None
    if own and asked == protocol_of(own) and own.steps >= steps:
        return own.until(steps)
    return evaluate_run(
        job,
        family,
        split=split,
        seed=seed,
        tasks=tasks,
        episodes=protocol.episodes,
        steps=steps,
        deterministic=deterministic,
    )


def check_spaces(folder: Path, job: Run, family: Family) -> None:
    """Raise UsageError unless the family's spaces equal those of the run's family."""
    for name in ("observation_space", "action_space"):
        trained_on, other = getattr(job.family, name), getattr(family, name)
        if trained_on != other:
            raise UsageError(
                f"{folder} was trained on {job.family.name}, whose {name.replace('_', ' ')} is "
                f"{trained_on}, not {other} as that of {family.name}: leave it out."
            )


def rows_of(runs: Runs, results: Sequence[Evaluation], episodes: int | None) -> list[Row]:
    """One row for each group of runs that differ only in their seed."""
    folders, jobs = list(runs), list(runs.values())
    settings = [trained(job) for job in jobs]
    groups = group(settings)
    names = labels([settings[members[0]] for members in groups])
    return [
        Row(
            label,
            tuple(folders[i] for i in members),
            tuple(settings[i].seed for i in members),
            round(np.mean([jobs[i].state.env_steps for i in members])),
            episodes_per_step(settings[members[0]], episodes),
            tuple(results[i] for i in members),
        )
        for label, members in zip(names, groups, strict=True)
    ]


def record_of(rows: Sequence[Row], evaluation: Evaluation) -> dict[str, Any]:
    """The JSON record of a comparison; `evaluation` is that of any run."""
    return {
        "family": evaluation.family,
        "split": evaluation.split,
        "seed": evaluation.seed,
        "deterministic": evaluation.deterministic,
        "tasks": len(evaluation.params),
        "oracle_mean": None if evaluation.oracle is None else float(evaluation.oracle.mean()),
        "rows": [row.record(rows[0]) for row in rows],
    }
