"""`config.json`: the settings of a run with a digest, read as data only."""

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

FORMAT = 5  # increased when older versions can't read what this version writes
SIGNED = 5  # the first format with digests of the settings, here and in checkpoints
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """The contents of `config.json`."""

    train: TrainConfig
    run: RunConfig
    family: Mapping[str, Any]  # from `metarl.config.family_record`; empty before format 5
    started_from: Mapping[str, Any]  # files of the warm start, for information only
    digest: str  # of all of the above; recorded in each checkpoint


def write_config(
    folder: Path, train: TrainConfig, run: RunConfig, family: Mapping[str, Any]
) -> Settings:
    """Write `config.json` and return the settings as they will be read back."""
    plain = dataclasses.asdict(train)
    start = {name: plain.pop(name) for name in START}  # `trust` is never recorded
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
    """Read the settings of a run; code that they name is not imported.

    Raises:
        UsageError: missing, incomplete, damaged or modified, or written by a newer version.
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
    """The settings that a run was started with; errors as `read_settings`."""
    found = read_settings(folder)
    return found.train, found.run


def _settings(record: dict[str, Any]) -> Settings:
    recorded, version = record.pop("sha256", None), record["versions"]["metarl"]
    if type(record["format"]) is not int or record["format"] < 1:
        raise ValueError(f"format {record['format']}")
    if record["format"] > FORMAT:
        raise UsageError(
            f"written by metarl {version} in format {record['format']}, this metarl reads up to "
            f"{FORMAT}: upgrade metarl."
        )
    train, run = from_record(TrainConfig, record["train"]), from_record(RunConfig, record["run"])
    family, start = record.get("family", {}), record.get("started_from", {})
    parts = (family, start, *(family.get(part, {}) for part in ("fields", "vary", "fixed")))
    if not all(isinstance(part, dict) for part in parts):
        raise TypeError("no record of a family")
    digest = digest_of(record)
    if recorded != digest and (recorded is not None or record["format"] >= SIGNED):
        code = named_code(train)
        raise UsageError(
            "damaged, or changed after the run was started (its SHA-256 differs): restore it, or "
            + "start a new run."
            + (f" It names code that would be imported: {', '.join(code)}." if code else "")
        )
    # Before format 5, these were part of the settings.
    started_from = {k: str(start.get(k) or record["train"].get(k, "")) for k in FILES}
    return Settings(train, run, family, started_from, digest)


def _short(error: Exception) -> str:
    """The error on one line, truncated: a damaged file may contain anything."""
    return " ".join(repr(error).split())[:200]


def from_record(kind: type[T], record: dict[str, Any]) -> T:
    """A settings object from its JSON, where tuples are lists.

    The fields of `START` are ignored: a folder may not name files to open, or declare itself
    trusted.
    """
    record = {k: v for k, v in record.items() if k not in START}
    if "policy" in record:  # the name until version 0.2
        record["network"] = record.pop("policy")
    if "first_order" in record:  # the name until format 2
        record["second_order_steps"] = 0 if record.pop("first_order") else 20
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in record.items()})


def digest_of(record: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON record, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
