"""`config.json`: what a run was started with, with a digest, read as data and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from metarl.config.settings import RunConfig, TrainConfig
from metarl.config.trust import named_code
from metarl.config.warm_start import FILES, START
from metarl.envs import UsageError
from metarl.system.files import DAMAGED, read_json, write_atomically
from metarl.system.machine import git_commit, versions

FORMAT = 5  # raised when an older metarl could not read what this one writes
SIGNED = 5  # from this format on there are digests of the settings, here and in checkpoints
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What a run folder says of its run."""

    train: TrainConfig
    run: RunConfig
    family: Mapping[str, Any]  # as `metarl.config.family_record` makes it; empty before format 5
    started_from: Mapping[str, Any]  # files that the first weights came from, for people
    digest: str  # of all of this; each checkpoint names it


def write_config(
    folder: Path, train: TrainConfig, run: RunConfig, family: Mapping[str, Any]
) -> Settings:
    """Write `config.json`; the settings as they will be read back."""
    plain = dataclasses.asdict(train)
    start = {name: plain.pop(name) for name in START}  # `trust` is left out altogether
    record = {
        "format": FORMAT,
        "train": plain,
        "run": dataclasses.asdict(run),
        "family": family,
        "started_from": {name: start[name] for name in FILES},
        "versions": versions(),
        "git_commit": git_commit(),
    }
    text = json.dumps({**record, "sha256": digest_of(record)}, indent=1)
    write_atomically(folder / "config.json", text.encode())
    return _settings(json.loads(text))


def read_settings(folder: Path) -> Settings:
    """The settings of a run; nothing that they name is imported.

    Raises:
        UsageError: no run there, half-written, damaged, changed, or from a newer metarl.
    """
    path = folder / "config.json"
    if not path.exists():
        raise UsageError(
            f"no config.json in {folder}: give the folder of a run, such as runs/NAME."
        )
    try:
        return _settings(read_json(path))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (*DAMAGED, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is damaged ({_short(error)}): restore it, or start a new run."
        ) from error


def read_config(folder: Path) -> tuple[TrainConfig, RunConfig]:
    """The settings that a run was started with; errors as in `read_settings`."""
    found = read_settings(folder)
    return found.train, found.run


def _settings(record: dict[str, Any]) -> Settings:
    own, newest = record.pop("sha256", None), record["versions"]["metarl"]
    if type(record["format"]) is not int or record["format"] < 1:
        raise ValueError(f"format {record['format']}")
    if record["format"] > FORMAT:
        raise UsageError(
            f"written by metarl {newest} in format {record['format']}, this metarl reads up to "
            f"{FORMAT}: upgrade metarl."
        )
    train, run = from_record(TrainConfig, record["train"]), from_record(RunConfig, record["run"])
    family, start = record.get("family", {}), record.get("started_from", {})
    parts = (family, start, *(family.get(part, {}) for part in ("fields", "vary", "fixed")))
    if not all(isinstance(part, dict) for part in parts):
        raise TypeError("no record of a family")
    digest = digest_of(record)
    if own != digest and (own is not None or record["format"] >= SIGNED):
        code = named_code(train)
        raise UsageError(
            "damaged, or changed after the run was started (its SHA-256 differs): restore it, or "
            + "start a new run."
            + (f" It names code that would be imported: {', '.join(code)}." if code else "")
        )
    # Before format 5 these were among the settings.
    told = {k: str(start.get(k) or record["train"].get(k, "")) for k in FILES}
    return Settings(train, run, family, told, digest)


def _short(error: Exception) -> str:
    """The error on one line, and no longer than that: a damaged file may hold anything."""
    return " ".join(repr(error).split())[:200]


def from_record(kind: type[T], record: dict[str, Any]) -> T:
    """A settings object from its JSON, in which a tuple is a list.

    What a run starts from isn't read: no folder may name a file to open, or say that it is trusted.
    """
    record = {k: v for k, v in record.items() if k not in START}
    if "policy" in record:  # as it was called until version 0.2
        record["network"] = record.pop("policy")
    if "first_order" in record:  # as it was called until format 2
        record["second_order_steps"] = 0 if record.pop("first_order") else 20
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in record.items()})


def digest_of(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record of JSON, in whatever order its keys are."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
