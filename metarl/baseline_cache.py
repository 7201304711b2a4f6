"""What baselines leave in a folder: records in JSON and weights in safetensors, with digests.

Nothing is unpickled: weights are tensors by name, and models are made anew from settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from envs import UsageError
from metarl.checkpoint import write_atomically

Record = dict[str, Any]


def digest(what: Any) -> str:
    """SHA-256 of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def kept(path: Path, make: Callable[[], Record]) -> Record:
    """The record in this file, made if it isn't there."""
    if not path.exists():
        write_record(path, make())
    return read_record(path)


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
        found = json.loads(path.read_text())
        record: Record = found["record"]
        whole = found["sha256"] == digest(record)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
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
        blob = path.read_bytes()
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
