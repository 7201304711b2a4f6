"""Checkpoints: tensors in safetensors, the rest in JSON, with digests; nothing is unpickled.

A checkpoint is a pair `step-000120.safetensors` and `step-000120.json`. Each file is written to a
temporary file, forced to disk and renamed, the JSON last: if it exists, the checkpoint is complete.
The two newest pairs are kept, so that there is one to fall back on.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from metarl.agents.networks.running_stats import Moments
from metarl.config.settings import TrainConfig
from metarl.config.settings_file import FORMAT as FORMAT
from metarl.config.settings_file import SIGNED, digest_of
from metarl.envs import Family, UsageError
from metarl.experiment.checkpoint_contents import check_tensors, expected
from metarl.outer.train_state import (
    RunningStats,
    TrainState,
    named_weights,
    normalizing,
    with_weights,
)
from metarl.system.files import DAMAGED, MB, read_json, read_limited
from metarl.system.files import write_atomically as write_atomically  # for other modules

KEEP = 2
COUNTERS = ("iteration", "env_steps", "skipped", "skipped_in_a_row")


def save_checkpoint(folder: Path, family: str, state: TrainState, config: str = "") -> Path:
    """Write the state, then remove all but the `KEEP` newest checkpoints.

    Args:
        config: digest of the run's settings; empty matches any settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"step-{state.iteration:06d}"
    tensors = {f"weights/{k}": w.contiguous() for k, w in named_weights(state.agent).items()}
    tensors |= {f"opt/{k}": w.contiguous() for k, w in state.opt.items()}
    for group, moments in state.running_stats._asdict().items():
        if moments:
            tensors |= {f"seen/{group}/{k}": x for k, x in moments._asdict().items()}
    blob = save(tensors)
    record: dict[str, Any] = {
        "format": FORMAT,
        "family": family,
        "config_sha256": config,
        **{name: getattr(state, name) for name in COUNTERS},
        "tensors_sha256": hashlib.sha256(blob).hexdigest(),
    }
    record["sha256"] = digest_of(record)
    write_atomically(stem.with_suffix(".safetensors"), blob)
    write_atomically(stem.with_suffix(".json"), json.dumps(record, indent=1).encode())
    for old in checkpoints(folder)[:-KEEP]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)
    for part in folder.glob("step-*.part"):  # left by a killed process
        if part.is_symlink() or part.is_file():
            part.unlink()
    return stem.with_suffix(".json")


def load_checkpoint(
    folder: Path, cfg: TrainConfig, family: Family, blank: TrainState, config: str = ""
) -> TrainState:
    """Load the newest checkpoint in `folder`, to the device of the untrained state `blank`.

    Args:
        config: digest of the run's settings.
    Raises:
        UsageError: no checkpoint; or it is damaged, from a newer version, or of another run, family
            or network.
    """
    found = checkpoints(folder)
    if not found:
        raise UsageError(f"no checkpoint in {folder}: start a run with `metarl train` first.")
    path, advice = found[-1], "start a new run."
    if len(found) > 1:
        advice = f"delete {path.name} to fall back on the checkpoint before it."
    record = _read(path, advice)
    if record["family"] != cfg.family:
        raise UsageError(
            f"{path} belongs to family '{record['family']}', not '{cfg.family}': "
            "put back the checkpoints of this run."
        )
    if record["format"] >= SIGNED and record.get("config_sha256") not in (config, ""):
        raise UsageError(
            f"{path} belongs to a run with another config.json: put back the checkpoints, or the "
            "config.json, of this run."
        )
    tensors = _read_tensors(path.with_suffix(".safetensors"), record, blank, advice)
    learned = record["iteration"] > record["skipped"]
    want = expected(cfg, blank.agent, family, learned, list(tensors))
    check_tensors(path.with_suffix(".safetensors"), want, tensors, advice)
    # In the agent's order: the file has none, and the rounding of a gradient norm depends on it.
    names = named_weights(blank.agent)
    device = next(iter(names.values())).device
    loaded = {k: t.to(device) for k, t in tensors.items()}
    running_stats = RunningStats(
        *(_moments(f"seen/{group}/", loaded) for group in RunningStats._fields)
    )
    return TrainState(
        agent=normalizing(
            with_weights(blank.agent, {k: loaded[f"weights/{k}"] for k in names}), running_stats
        ),
        opt={k.removeprefix("opt/"): t for k, t in loaded.items() if k.startswith("opt/")},
        running_stats=running_stats,
        **{name: record[name] for name in COUNTERS},
    )


def _moments(prefix: str, tensors: dict[str, Tensor]) -> Moments | None:
    """The moments saved under a prefix, or None."""
    if prefix + "steps" not in tensors:
        return None
    return Moments(*(tensors[prefix + name] for name in Moments._fields))


def checkpoints(folder: Path) -> list[Path]:
    """The JSON files of all checkpoints in a folder, oldest first."""
    return sorted(folder.glob("step-*.json"), key=lambda p: (len(p.stem), p.stem))


def _read(path: Path, advice: str) -> dict[str, Any]:
    """Read and validate the JSON of a checkpoint."""
    try:
        record = read_json(path)
        newer, recorded = record["format"] > FORMAT, record.pop("sha256")
    except (*DAMAGED, KeyError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{path} can't be read ({reason}): {advice}") from error
    if newer:
        raise UsageError(
            f"{path} has format {record['format']}, "
            f"this metarl reads up to {FORMAT}: upgrade metarl."
        )
    if digest_of(record) != recorded:
        raise UsageError(f"{path} is damaged (its SHA-256 differs): {advice}")
    counts = [record.get(name) for name in COUNTERS]
    texts = [record.get("family"), record.get("tensors_sha256"), record.get("config_sha256", "")]
    valid = all(type(n) is int and 0 <= n < 2**63 for n in counts)
    if not (valid and all(isinstance(text, str) for text in texts)):
        raise UsageError(f"{path} lacks a field, or has one of another type: {advice}")
    if not counts[3] <= counts[2] <= counts[0]:
        raise UsageError(f"{path} has more skipped updates than iterations: {advice}")
    return record  # type: ignore[no-any-return]


def _read_tensors(
    path: Path, record: dict[str, Any], blank: TrainState, advice: str
) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint and verify their digest; shapes are checked later."""
    need = sum(w.nbytes for w in named_weights(blank.agent).values())
    try:  # Adam's moments take twice the size of the weights
        blob = read_limited(path, 64 * MB + 8 * need)
    except OSError as error:
        raise UsageError(f"{path} can't be read ({error}): {advice}") from error
    if hashlib.sha256(blob).hexdigest() != record["tensors_sha256"]:
        raise UsageError(f"{path} is damaged (its SHA-256 differs): {advice}")
    try:
        return load(blob)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{path} is not a safetensors file ({reason}): {advice}") from error
