"""Which runs are seeds of one algorithm, what sets the others apart, and what would be unfair."""

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

TASK_SETTINGS = (
    "family",
    "vary",
    "hold_out",
    "extrapolate",
    "set",
)  # settings that say what a task is
SLACK = 0.05  # share by which the environment steps of meta-training may differ
HOW = "compare runs that agree in it, or give --force"


def trained(job: Run) -> TrainConfig:
    """The settings of a run, with the iterations that it has made, which may be more or fewer."""
    return dataclasses.replace(job.train, iterations=job.state.iteration, **job.started_from)


def group(settings: Iterable[TrainConfig]) -> list[list[int]]:
    """Indices of the runs that differ in their seed alone, in the order in which they came."""
    found: dict[TrainConfig, list[int]] = {}
    for i, cfg in enumerate(settings):
        found.setdefault(dataclasses.replace(cfg, seed=0), []).append(i)
    return list(found.values())


def labels(settings: Sequence[TrainConfig]) -> list[str]:
    """The algorithm of each, and where it isn't as shipped, unless all share that."""
    changed = [_changed(cfg) for cfg in settings]
    shared = set.intersection(*(set(c.items()) for c in changed))
    families = len({cfg.family for cfg in settings}) > 1
    names = []
    for cfg, own in zip(settings, changed, strict=True):
        world = f" on {cfg.family}" if families else ""
        apart = [f", {_words(k, v)}" for k, v in own.items() if (k, v) not in shared]
        names.append(cfg.algo + world + "".join(apart))
    return names


def _changed(cfg: TrainConfig) -> dict[str, Any]:
    """Settings that aren't as shipped for the family and the algorithm."""
    shipped = preset(cfg.family, cfg.algo, seed=cfg.seed)
    names = [f.name for f in dataclasses.fields(TrainConfig)]
    own = {name: getattr(cfg, name) for name in names}
    return {name: v for name, v in own.items() if v != getattr(shipped, name)}


def _words(name: str, value: Any) -> str:
    """`hidden 64 64`, `multi-step`, `no multi-step`."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return flag if value else f"no {flag}"
    if isinstance(value, tuple):
        value = " ".join(map(str, value)) or "none"
    return f"{flag} {value:g}" if isinstance(value, float) else f"{flag} {value}"


def episodes_per_step(cfg: TrainConfig, asked: int | None) -> int:
    """Episodes of a task that one step of adaptation costs: those asked for, or of training.

    A memory learns from every episode that it plays; `episodes` are trials apart from each other.
    """
    return 1 if cfg.memory != "none" else asked or cfg.episodes


def check_distinct(runs: Runs) -> None:
    """Raise UsageError where two runs are one, which would count as two seeds."""
    seen: dict[TrainConfig, Path] = {}
    for folder, job in runs.items():
        settings = trained(job)
        if settings in seen:
            raise UsageError(
                f"{seen[settings]} and {folder} have the same settings and seed {settings.seed}: "
                "leave out one."
            )
        seen[settings] = folder


def check_fair(runs: Runs, episodes: int | None) -> None:
    """Raise UsageError that names the first thing in which runs are not to be compared.

    Args:
        episodes: of each step of adaptation, where they were asked for.
    """
    (first, one), *others = runs.items()
    for folder, job in others:
        for name in TASK_SETTINGS:
            a, b = (_plain(getattr(j.train, name)) for j in (one, job))
            if a != b:
                flag = name.replace("_", "-")
                raise UsageError(f"{first} has {flag} {a}, {folder} {b}: {HOW}.")
        if one.record != job.record:
            raise UsageError(
                f"{first} and {folder} were made with other fields of the family: {HOW}."
            )
        a, b = (str(episodes_per_step(j.train, episodes)) for j in (one, job))
        if a != b:
            raise UsageError(f"{first} adapts from {a} episodes a step, {folder} from {b}: {HOW}.")
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
