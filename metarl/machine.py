"""What a run depends on beside its settings: device, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from envs import UsageError


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        rank = int(os.environ.get("LOCAL_RANK", 0))  # of several processes each has its own
        return torch.device("cuda", rank % torch.cuda.device_count())
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name}: unknown; give auto, cpu, cuda or cuda:N.") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: not supported; give auto, cpu, cuda or cuda:N.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UsageError(
            f"--device {name}: this machine has {count} CUDA devices; give auto or cpu."
        )
    return device


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    packages = {
        "metarl": "metarl-toolkit",
        "torch": "torch",
        "gymnasium": "gymnasium",
        "numpy": "numpy",
    }
    return {"python": platform.python_version(), **{k: version(p) for k, p in packages.items()}}


def git_commit() -> str | None:
    """The commit of the source tree, `-dirty` where it was changed; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    command = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=10, env=env, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
