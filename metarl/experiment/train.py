"""A run from start to end: `metarl.train` in Python, and what `metarl train` shares with it."""

from __future__ import annotations

import dataclasses
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from metarl.config.presets import preset
from metarl.config.settings import RunConfig, TrainConfig
from metarl.distributed.collectives import is_rank_zero
from metarl.distributed.launcher import name_for_restarts
from metarl.envs import FAMILIES, Family, GymnasiumFamily, UsageError
from metarl.experiment.final_evaluation import conclude
from metarl.experiment.loaded_run import Run
from metarl.experiment.named_hooks import Callback
from metarl.experiment.progress import progress
from metarl.experiment.run import start
from metarl.experiment.run_folder import FolderTaken, numbered
from metarl.experiment.train_run import Watch, train_in
from metarl.tracking.trackers import Tracker

Setting = bool | int | float | str | Sequence[int] | Sequence[str]
OF_TRAINING, OF_RUN = ({f.name for f in dataclasses.fields(c)} for c in (TrainConfig, RunConfig))


def train(
    family: str | Family,
    *,
    run: Path | str | None = None,
    trackers: Sequence[Tracker] = (),
    callback: Callback | str | Sequence[Callback | str] = (),
    quiet: bool = True,
    **settings: Setting,
) -> Run:
    """Meta-train an agent and evaluate it on unseen tasks, as `metarl train` does.

    Args:
        family: a name, `module:Class`, the id of a Gymnasium environment, or a family object.
        run: a new folder; by default `runs/FAMILY-ALGO-sSEED-DATE-TIME`.
        trackers: take the metrics, besides those of `track`.
        callback: one or several, called with each state; training stops when one returns True.
            Those given as `module:function` are recorded with the run.
        quiet: no progress bar and no messages.
        settings: fields of `TrainConfig` and `RunConfig`; the others are those of the preset for
            the family and `algo`.
    Raises:
        UsageError: a setting that doesn't exist, or doesn't fit; or the folder exists.
        RunError: training can't go on; the last good state has been saved.
    """
    named, functions = _callbacks(callback)
    cfg, about = _settings(_name_of(family), {**settings, "callback": named})
    given = None if isinstance(family, str) else family
    job = start_run(Path(run) if run else None, cfg, about, given)
    console = Console(markup=False, quiet=quiet or not is_rank_zero())
    with progress(console, cfg.iterations, 0) as watch:
        return train_and_evaluate(
            job, watch, trackers, functions, partial(console.print, soft_wrap=True)
        )


def train_and_evaluate(
    job: Run,
    watch: Watch,
    trackers: Sequence[Tracker] = (),
    callbacks: Sequence[Callback] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Run:
    """Train a run to its end, and evaluate it; the other ranks of several only train along."""
    state = train_in(job.folder, job, watch, trackers, say, callbacks)
    job = dataclasses.replace(job, state=state, evaluation=None)
    if not is_rank_zero():
        return job
    return dataclasses.replace(job, evaluation=conclude(job.folder, job, state))


def start_run(
    folder: Path | None, train: TrainConfig, run: RunConfig, family: Family | None = None
) -> Run:
    """A new run; without a folder in the default one, or under the next name that is free."""
    if folder:
        return start(folder, train, run, family)
    default = default_folder(train)
    for name in numbered(default):
        with suppress(FolderTaken):
            return start(name, train, run, family)
    return start(default, train, run, family)


def default_folder(train: TrainConfig) -> Path:
    """`runs/FAMILY-ALGO-sSEED-DATE-TIME`."""
    family = re.sub(r"[:/]", ".", train.family)
    name = name_for_restarts() or time.strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{family}-{train.algo}-s{train.seed}-{name}"


def _settings(family: str, given: dict[str, Any]) -> tuple[TrainConfig, RunConfig]:
    """The preset of a family and an algorithm, with what is given instead."""
    every = OF_TRAINING | OF_RUN
    for name in given:
        if name not in every:
            near = ", ".join(get_close_matches(name, every))
            raise UsageError(
                f"train({name}=...): no such setting{near and f', but {near}'}; give one that "
                "`metarl train --help` lists."
            )
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    about = RunConfig(**{k: v for k, v in values.items() if k in OF_RUN})
    if about.processes > 1:
        raise UsageError(
            f"train(processes={about.processes}): it trains in this process alone; use `metarl "
            f"train {family} --processes {about.processes}`."
        )
    return preset(family, **{k: v for k, v in values.items() if k in OF_TRAINING}), about


def _callbacks(
    given: Callback | str | Sequence[Callback | str],
) -> tuple[tuple[str, ...], list[Callback]]:
    """Those by name, and functions."""
    every = [given] if isinstance(given, str) or callable(given) else list(given)
    names = tuple(each for each in every if isinstance(each, str))
    return names, [each for each in every if not isinstance(each, str)]


def _name_of(family: str | Family) -> str:
    """The name by which a family can be made again, where it has one."""
    if isinstance(family, str):
        return family
    kind = type(family)
    if isinstance(family, GymnasiumFamily) or FAMILIES.get(family.name) is kind:
        return family.name
    module = sys.modules.get(kind.__module__)
    if kind.__module__ != "__main__" and getattr(module, kind.__qualname__, None) is kind:
        return f"{kind.__module__}:{kind.__qualname__}"
    return family.name
