"""Summary of a run as Markdown: command, settings and versions."""

from __future__ import annotations

import dataclasses
from shlex import join
from typing import Any

from metarl.config.presets import preset
from metarl.config.settings import RunConfig, TrainConfig
from metarl.system.machine import git_commit, versions

# A flag for each value.
REPEATED = ("vary", "hold_out", "validation", "extrapolate", "set", "callback")


def command(train: TrainConfig, run: RunConfig) -> str:
    """`metarl train` with all settings that differ from the defaults."""
    words = ["metarl", "train", train.family]
    for settings, shipped in ((train, preset(train.family, train.algo)), (run, RunConfig())):
        for field in dataclasses.fields(settings):
            value = getattr(settings, field.name)
            defaults = TrainConfig.algo if field.name == "algo" else getattr(shipped, field.name)
            if field.name != "family" and value != defaults:
                words += _flag(field.name, value)
    return join(words)


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if name in REPEATED:
        return [word for v in value for word in (f"--{flag}", v)]
    return [f"--{flag}", *(str(v) for v in (value if isinstance(value, tuple) else (value,)))]


def about(train: TrainConfig, run: RunConfig, validation: str) -> str:
    """Markdown: command, versions, settings.

    Args:
        validation: how validation tasks differ from those of training.
    """
    settings = {**dataclasses.asdict(train), **dataclasses.asdict(run)}
    made_with = {**versions(), "git commit": git_commit() or "none"}
    return "\n\n".join(
        (
            f"`{command(train, run)}`",
            f"Evaluations during training play validation tasks ({validation}), never test tasks.",
            _table("made with", made_with),
            _table("setting", settings),
        )
    )


def _table(title: str, rows: dict[str, Any]) -> str:
    lines = [f"| {title} | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())]
    return "\n".join(lines)
