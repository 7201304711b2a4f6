"""Checkpoints: tensors in safetensors, the rest in JSON, digests of both, nothing unpickled.

A checkpoint is a pair `step-000120.safetensors` and `step-000120.json`. Each file is written aside,
forced to disk and renamed, the JSON last: whoever finds it finds the whole checkpoint. The two
newest pairs are kept, so that there is always one to fall back on.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from agents.normalise import Moments
from envs import UsageError
from metarl.state import Seen, TrainState, named_weights, normalising, with_weights

FORMAT = 4  # raised when an older metarl could not read what this one writes
KEEP = 2


def write_atomically(path: Path, content: bytes) -> None:
    """The old file or the new one, never half a file; what is left of a failure is removed."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)  # so that the new name outlives a power cut
        os.fsync(folder)
        os.close(folder)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def save_checkpoint(folder: Path, family: str, state: TrainState) -> Path:
    """Write the state; older checkpoints but one are removed once it is safe."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"step-{state.iteration:06d}"
    tensors = {f"weights/{k}": w.contiguous() for k, w in named_weights(state.agent).items()}
    tensors |= {f"opt/{k}": w.contiguous() for k, w in state.opt.items()}
    for group, moments in state.seen._asdict().items():
        if moments:
            tensors |= {f"seen/{group}/{k}": x for k, x in moments._asdict().items()}
    blob = save(tensors)
    record: dict[str, Any] = {
        "format": FORMAT,
        "family": family,
        "iteration": state.iteration,
        "env_steps": state.env_steps,
        "skipped": state.skipped,
        "skipped_in_a_row": state.skipped_in_a_row,
        "tensors_sha256": hashlib.sha256(blob).hexdigest(),
    }
    record["sha256"] = _digest(record)
    write_atomically(stem.with_suffix(".safetensors"), blob)
    write_atomically(stem.with_suffix(".json"), json.dumps(record, indent=1).encode())
    for old in checkpoints(folder)[:-KEEP]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)
    return stem.with_suffix(".json")


def load_checkpoint(folder: Path, family: str, blank: TrainState) -> TrainState:
    """The newest checkpoint in `folder`, on the device of `blank`, whose shapes it must have.

    Raises:
        UsageError: none there, damaged, from a newer metarl, or of another family or network.
    """
    found = checkpoints(folder)
    if not found:
        raise UsageError(f"no checkpoint in {folder}: start a run with `metarl train` first.")
    path = found[-1]
    record, tensors = _read(path, fall_back=len(found) > 1)
    if record["family"] != family:
        raise UsageError(
            f"{path} belongs to family '{record['family']}', not '{family}': "
            "put back the checkpoints of this run."
        )
    weights = {
        k.removeprefix("weights/"): t for k, t in tensors.items() if k.startswith("weights/")
    }
    wanted = named_weights(blank.agent)
    for name in sorted(wanted.keys() | weights.keys()):
        have = tuple(weights[name].shape) if name in weights else "missing"
        want = tuple(wanted[name].shape) if name in wanted else "not wanted"
        if have != want:
            raise UsageError(
                f"{path}: {name} is {have}, this family and network need {want}: "
                "give the family and settings that the run was started with."
            )
    device = next(iter(wanted.values())).device
    # In the order of `wanted`: a file has no order, and the sum in a gradient norm depends on it.
    found_weights = {k: weights[k].to(device) for k in wanted}
    seen = Seen(*(_moments(f"seen/{group}/", tensors, device) for group in Seen._fields))
    return TrainState(
        agent=normalising(with_weights(blank.agent, found_weights), seen),
        opt={
            k.removeprefix("opt/"): t.to(device) for k, t in tensors.items() if k.startswith("opt/")
        },
        iteration=record["iteration"],
        env_steps=record["env_steps"],
        skipped=record["skipped"],
        skipped_in_a_row=record["skipped_in_a_row"],
        seen=seen,
    )


def _moments(prefix: str, tensors: dict[str, Tensor], device: torch.device) -> Moments | None:
    """Those saved under this prefix, if any."""
    if prefix + "steps" not in tensors:
        return None
    return Moments(*(tensors[prefix + name].to(device) for name in Moments._fields))


def checkpoints(folder: Path) -> list[Path]:
    """Their JSON files, oldest first."""
    return sorted(folder.glob("step-*.json"), key=lambda p: (len(p.stem), p.stem))


def _read(path: Path, fall_back: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """JSON and tensors of a checkpoint, whole and undamaged."""
    advice = (
        f"delete {path.name} to fall back on the checkpoint before it."
        if fall_back
        else "start a new run."
    )
    try:
        record = json.loads(path.read_text())
        blob = path.with_suffix(".safetensors").read_bytes()
        newer, own = record["format"] > FORMAT, record.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(f"{path} can't be read ({error}): {advice}") from error
    if newer:
        raise UsageError(
            f"{path} has format {record['format']}, "
            f"this metarl reads up to {FORMAT}: upgrade metarl."
        )
    if _digest(record) != own:
        raise UsageError(f"{path} is damaged (its SHA-256 differs): {advice}")
    tensors_path = path.with_suffix(".safetensors")
    if hashlib.sha256(blob).hexdigest() != record["tensors_sha256"]:
        raise UsageError(f"{tensors_path} is damaged (its SHA-256 differs): {advice}")
    try:
        return record, load(blob)
    except SafetensorError as error:
        raise UsageError(f"{tensors_path} is no safetensors file ({error}): {advice}") from error


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
