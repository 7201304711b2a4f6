"""Group runs by algorithm, label the groups, and check that they are comparable."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from metarl.config.presets import preset
from metarl.config.settings import TrainConfig
from metarl.envs import UsageError
from metarl.experiment.loaded_run import Run

Runs = Mapping[Path, Run]

# Settings that define the tasks.
TASK_SETTINGS = ("family", "vary", "hold_out", "extrapolate", "set")
SLACK = 0.05  # relative difference of the steps of meta-training that is allowed
HOW = "compare runs that agree in it, or give --force"


def trained(job: Run) -> TrainConfig:
    """The settings of a run, with the number of iterations actually done."""
    return dataclasses.replace(job.train, iterations=job.state.iteration, **job.started_from)


def group(settings: Iterable[TrainConfig]) -> list[list[int]]:
    """Groups of indices of runs that differ only in their seed, in the order given."""
    found: dict[TrainConfig, list[int]] = {}
    for i, cfg in enumerate(settings):
        found.setdefault(dataclasses.replace(cfg, seed=0), []).append(i)
    return list(found.values())


def labels(settings: Sequence[TrainConfig]) -> list[str]:
    """Names of the algorithms, with the changed settings that not all of them share."""
    changed = [_changed(cfg) for cfg in settings]
    shared = set.intersection(*(set(c.items()) for c in changed))
    families = len({cfg.family for cfg in settings}) > 1
    names = []
    for cfg, settings_of in zip(settings, changed, strict=True):
        family = f" on {cfg.family}" if families else ""
        differs = [f", {_words(k, v)}" for k, v in settings_of.items() if (k, v) not in shared]
        names.append(cfg.algo + family + "".join(differs))
    return names


def _changed(cfg: TrainConfig) -> dict[str, Any]:
    """Settings that differ from the defaults of the family and the algorithm."""
    defaults = preset(cfg.family, cfg.algo, seed=cfg.seed)
    names = [f.name for f in dataclasses.fields(TrainConfig)]
    values = {name: getattr(cfg, name) for name in names}
    return {name: v for name, v in values.items() if v != getattr(defaults, name)}


def _words(name: str, value: Any) -> str:
    """`hidden 64 64`, `multi-step`, `no multi-step`."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return flag if value else f"no {flag}"
    if isinstance(value, tuple):
        value = " ".join(map(str, value)) or "none"
    return f"{flag} {value:g}" if isinstance(value, float) else f"{flag} {value}"


def episodes_per_step(cfg: TrainConfig, asked: int | None) -> int:
    """Episodes of a task for each step of adaptation: as requested, or as in training.

    A recurrent agent adapts after every episode; its `episodes` are independent trials.
    """
    return 1 if cfg.memory != "none" else asked or cfg.episodes


def check_distinct(runs: Runs) -> None:
    """Raise UsageError for two runs with the same settings and seed, which aren't two samples."""
    seen: dict[TrainConfig, Path] = {}
    for folder, job in runs.items():
        settings = trained(job)
        if settings in seen:
            raise UsageError(
                f"{seen[settings]} and {folder} have the same settings and seed {settings.seed}: "
                "leave out one."
            )
        seen[settings] = folder


def check_actions(runs: Runs, deterministic: bool) -> None:
    """Raise UsageError for an evaluation of most likely actions, unless all are to be of those.

    The two kinds of returns don't compare: the most likely action never explores.
    """
    for folder, job in runs.items():
        own = job.evaluation
        if own and own.deterministic and not deterministic:
            raise UsageError(
                f"{folder / 'evaluation.json'} is of most likely actions, this comparison of "
                "sampled ones: give --deterministic to evaluate all runs so, or --force."
            )


def check_fair(runs: Runs, episodes: int | None) -> None:
    """Raise UsageError for the first difference that makes a comparison unfair.

    Args:
        episodes: requested number of episodes for each step of adaptation, if any.
    """
    (first, one), *others = runs.items()
    for folder, job in others:
        for name in TASK_SETTINGS:
            a, b = (_plain(getattr(j.train, name)) for j in (one, job))
            if a != b:
                flag = name.replace("_", "-")
                raise UsageError(f"{first} has {flag} {a}, {folder} {b}: {HOW}.")
        if one.record != job.record:
            raise UsageError(f"{first} and {folder} differ in the fields of their family: {HOW}.")
        a, b = (str(episodes_per_step(j.train, episodes)) for j in (one, job))
        if a != b:
            raise UsageError(
                f"{first} adapts with {a} episodes per step, {folder} with {b}: {HOW}."
            )
    for folder, job in runs.items():
        if job.state.iteration < job.train.iterations:
            raise UsageError(
                f"{folder} has {job.state.iteration} of its {job.train.iterations} iterations: "
                f"go on with `metarl train --resume {quote(str(folder))}{job.resuming}`, "
                "or give --force."
            )
    low, high = (f(runs, key=lambda folder: runs[folder].state.env_steps) for f in (min, max))
    few, many = runs[low].state.env_steps, runs[high].state.env_steps
    if many > few * (1 + SLACK):
        raise UsageError(
            f"{low} was meta-trained for {few:,} environment steps, {high} for {many:,}: {HOW}."
        )


def _plain(value: Any) -> str:
    return " ".join(value) or "none" if isinstance(value, tuple) else str(value)
