"""An agent in a file: safetensors, with what it is as JSON in the header; nothing is unpickled.

The header names no code. The JSON holds digests of itself and of the tensors, so that damage is
noticed; and since digests find no malice, everything in it is checked whatever they say.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from metarl.agent_files.agent_record import SPACES, expected, from_record, to_record
from metarl.agents.learners.recurrent_agent import AnyAgent
from metarl.config.settings_file import digest_of
from metarl.envs import UsageError
from metarl.experiment.checkpoint_contents import Kind, check_tensors
from metarl.system.files import DAMAGED, SETTINGS, open_regular, read_limited, write_atomically
from metarl.system.machine import choose_device

AGENT_FORMAT = 1  # raised when an older metarl could not read what this one writes
KEY = "metarl_agent"
LENGTH = 8  # bytes that say how long the header is
ADVICE = "give a file that agent.save wrote."


def save_agent(agent: AnyAgent, path: Path | str) -> None:
    """Write an agent, adapted or not, to one file, the old file or the new one.

    Raises:
        UsageError: it can't be written there; or the agent has weights that are not finite, or a
            network, a space or settings of a kind that no file can hold.
    """
    path = Path(path)
    record, live = to_record(agent)
    tensors = {k: x.detach().cpu().contiguous().clone() for k, x in live.items()}
    advice = "only an agent whose weights are as training leaves them can be saved."
    _check(path, expected(record), tensors, advice, advice)
    blob = save(tensors)
    data = memoryview(blob)[LENGTH + _header_length(blob) :]
    record |= {"format": AGENT_FORMAT, "tensors_sha256": hashlib.sha256(data).hexdigest()}
    record["sha256"] = digest_of(record)
    try:
        write_atomically(path, save(tensors, {KEY: json.dumps(record)}))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: {reason}; give a file in a writable folder.") from error


def load_agent(path: Path | str, device: str = "cpu") -> AnyAgent:
    """The agent that `agent.save` wrote, which acts and adapts as before, to the bit.

    It needs neither a run nor a family. Nothing in the file is executed or imported.

    Args:
        device: auto, cpu, cuda or cuda:N.
    Raises:
        UsageError: no such file, or none of an agent; or it is damaged, or from a newer metarl.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder: open a run with metarl.load, or {ADVICE}")
    chosen = choose_device(device)
    record = _header(path)
    want = _expected(path, record)
    tensors = _read_tensors(path, record, want)
    _check(path, want, tensors, ADVICE, ADVICE)
    try:
        return from_record(record, tensors).to(chosen)
    except (UsageError, ValueError) as error:
        raise UsageError(f"{path}: {_short(error)}: {ADVICE}") from error


def _header_length(blob: bytes) -> int:
    return int.from_bytes(blob[:LENGTH], "little")


def _header(path: Path) -> dict[str, Any]:
    """What the file says that the agent is; the tensors are not read yet."""
    try:
        with open_regular(path) as file:
            length = _header_length(file.read(LENGTH))
            if length > SETTINGS:
                raise ValueError(f"a header of {length:,} bytes")
            header = json.loads(file.read(length))
        text = header["__metadata__"][KEY]
    except (KeyError, TypeError, *DAMAGED) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "no such file" if missing else f"no agent's file ({_short(error)})"
        raise UsageError(f"{path}: {reason}: {ADVICE}") from error
    try:
        record: dict[str, Any] = json.loads(text)
        own, newer = record.pop("sha256"), record["format"] > AGENT_FORMAT
    except (KeyError, TypeError, AttributeError, *DAMAGED) as error:
        raise UsageError(f"{path} is damaged ({_short(error)}): {ADVICE}") from error
    if newer:
        raise UsageError(
            f"{path} has format {record['format']}, this metarl reads up to {AGENT_FORMAT}: "
            "upgrade metarl."
        )
    if digest_of(record) != own:
        raise UsageError(f"{path} is damaged (its SHA-256 differs): {ADVICE}")
    return record


def _expected(path: Path, record: dict[str, Any]) -> dict[str, Kind]:
    """The tensors that an agent of this record has."""
    wrong = (UsageError, KeyError, TypeError, AttributeError, ValueError, RuntimeError)
    try:
        return expected(record)
    except (*wrong, OverflowError, AssertionError) as error:
        raise UsageError(f"{path} can't be opened ({_short(error)}): {ADVICE}") from error


def _read_tensors(path: Path, record: dict[str, Any], want: dict[str, Kind]) -> dict[str, Tensor]:
    """The tensors, undamaged; what they are is checked afterwards."""
    need = sum(math.prod(kind.shape) * kind.dtype.itemsize for kind in want.values())
    try:
        blob = read_limited(path, LENGTH + SETTINGS + need)
        data = memoryview(blob)[LENGTH + _header_length(blob) :]
        if hashlib.sha256(data).hexdigest() != record["tensors_sha256"]:
            raise ValueError("its SHA-256 differs")
        return load(blob)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UsageError(f"{path} is damaged ({_short(error)}): {ADVICE}") from error


def _check(
    path: Path, want: dict[str, Kind], found: dict[str, Tensor], advice: str, remedy: str
) -> None:
    """Raise UsageError unless these tensors are as they must be.

    Bounds of spaces may be infinite; `make_space` checks their numbers.
    """
    bounds = tuple(f"{name}/" for name in SPACES)
    finite = {k: x.new_zeros(x.shape) if k.startswith(bounds) else x for k, x in found.items()}
    check_tensors(path, want, finite, advice, remedy)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
