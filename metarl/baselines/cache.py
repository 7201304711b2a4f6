"""Cache of baselines: records in JSON and weights in safetensors, with digests.

Nothing is unpickled: weights are named tensors, and models are rebuilt from settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from metarl.envs import UsageError
from metarl.evaluation.statistics import Array
from metarl.system.files import DAMAGED, RECORD, read_json, read_limited, write_atomically

Record = dict[str, Any]
T = TypeVar("T")


def digest(what: Any) -> str:
    """SHA-256 of a value that can be encoded as JSON."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def kept(path: Path, make: Callable[[], Record], parse: Callable[[Record], T]) -> T:
    """Parse the record in a file; if the file doesn't exist, write it with `make` first.

    Raises:
        UsageError: the file is damaged or can't be parsed.
    """
    if not path.exists():
        write_record(path, make())
    try:
        return parse(read_record(path))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path} is damaged: delete it to recompute it.") from error


def numbers(rows: Any, *shape: int) -> Array:
    """A table of this shape from JSON; ValueError for another shape or non-finite numbers."""
    table = np.array(rows, dtype=np.float64)
    if table.shape != shape or not np.isfinite(table).all():
        raise ValueError(f"{table.shape} instead of {shape}")
    return table


def write_record(path: Path, record: Record) -> None:
    """Write a record with its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"sha256": digest(record), "record": record}).encode())


def read_record(path: Path) -> Record:
    """Read what `write_record` wrote.

    Raises:
        UsageError: the file is damaged.
    """
    try:
        found = read_json(path, RECORD)
        record: Record = found["record"]
        valid = found["sha256"] == digest(record)
    except (*DAMAGED, KeyError, TypeError):
        valid = False
    if not valid:
        raise UsageError(f"{path} is damaged: delete it to recompute it.")
    return record


def has_tensors(stem: Path) -> bool:
    """Whether `write_tensors` completed."""
    return _files(stem)[1].exists()


def write_tensors(stem: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors to `STEM.safetensors`, then their digest to `STEM.json`."""
    blob = save({k: x.contiguous() for k, x in tensors.items()})
    path, about = _files(stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, blob)
    write_record(about, {"tensors_sha256": hashlib.sha256(blob).hexdigest()})


def read_tensors(stem: Path) -> dict[str, Tensor]:
    """Read what `write_tensors` wrote.

    Raises:
        UsageError: the file is damaged, or its numbers are not finite.
    """
    path, about = _files(stem)
    record = read_record(about)
    try:
        blob = read_limited(path, RECORD)
        if hashlib.sha256(blob).hexdigest() == record["tensors_sha256"]:
            tensors: dict[str, Tensor] = load(blob)
            if all(x.isfinite().all() for x in tensors.values()):
                return tensors
    except (OSError, KeyError, SafetensorError):
        pass
    raise UsageError(f"{path} is damaged: delete it and {about.name} to train it again.")


def _files(stem: Path) -> tuple[Path, Path]:
    """The two files of a stem. Names contain decimal points, so `with_suffix` can't be used."""
    return stem.with_name(f"{stem.name}.safetensors"), stem.with_name(f"{stem.name}.json")
