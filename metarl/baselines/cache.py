"""What baselines leave in a folder: records in JSON and weights in safetensors, with digests.

Nothing is unpickled: weights are tensors by name, and models are made anew from settings.
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
    """SHA-256 of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def kept(path: Path, make: Callable[[], Record], parse: Callable[[Record], T]) -> T:
    """What `parse` makes of the record in this file, which is made if it isn't there.

    Raises:
        UsageError: damaged, or something that can't be parsed.
    """
    if not path.exists():
        write_record(path, make())
    try:
        return parse(read_record(path))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path} is damaged: delete it, and it is made again.") from error


def numbers(rows: Any, *shape: int) -> Array:
    """A table of this shape from JSON; ValueError for anything else, or what isn't finite."""
    table = np.array(rows, dtype=np.float64)
    if table.shape != shape or not np.isfinite(table).all():
        raise ValueError(f"{table.shape} instead of {shape}")
    return table


def write_record(path: Path, record: Record) -> None:
    """The record with its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"sha256": digest(record), "record": record}).encode())


def read_record(path: Path) -> Record:
    """What `write_record` wrote.

    Raises:
        UsageError: damaged.
    """
    try:
        found = read_json(path, RECORD)
        record: Record = found["record"]
        whole = found["sha256"] == digest(record)
    except (*DAMAGED, KeyError, TypeError):
        whole = False
    if not whole:
        raise UsageError(f"{path} is damaged: delete it, and it is made again.")
    return record


def has_tensors(stem: Path) -> bool:
    """Whether `write_tensors` got to its end."""
    return _files(stem)[1].exists()


def write_tensors(stem: Path, tensors: dict[str, Tensor]) -> None:
    """Tensors in `STEM.safetensors`, then their digest in `STEM.json`."""
    blob = save({k: x.contiguous() for k, x in tensors.items()})
    path, about = _files(stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, blob)
    write_record(about, {"tensors_sha256": hashlib.sha256(blob).hexdigest()})


def read_tensors(stem: Path) -> dict[str, Tensor]:
    """What `write_tensors` wrote.

    Raises:
        UsageError: damaged, or not finite.
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
    raise UsageError(f"{path} is damaged: delete it and {about.name}, and it is trained again.")


def _files(stem: Path) -> tuple[Path, Path]:
    """Not by `with_suffix`, since names have numbers with a point."""
    return stem.with_name(f"{stem.name}.safetensors"), stem.with_name(f"{stem.name}.json")
