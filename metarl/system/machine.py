"""The environment of a run: device, memory allocator, versions, commit."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from metarl.envs import UsageError

if TYPE_CHECKING:
    import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def choose_device(name: str) -> torch.device:
    """The device of a `--device` value; `auto` is CUDA if available.

    Raises:
        UsageError: the device doesn't exist on this machine.
    """
    import torch  # imported here because `metarl families` uses this module without torch

    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        rank = int(os.environ.get("LOCAL_RANK", 0))  # each process on a machine uses another device
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


def set_matmul(numbers: str) -> None:
    """Set the precision of float32 matrix products: `float32`, `tf32` or `bf16`."""
    import torch

    torch.set_float32_matmul_precision(
        {"float32": "highest", "tf32": "high", "bf16": "medium"}[numbers]
    )


def device_name(device: torch.device) -> str:
    """`cpu`, or the model name of the GPU."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_memory() -> None:
    """Let the C library reuse the memory of freed tensors.

    By default, glibc returns large blocks to the system immediately. A meta-gradient, whose tensors
    have about 10 MB each, then spends a sixth of its time on page faults.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 64 << 20)  # larger blocks are still returned immediately
        libc.mallopt(M_TRIM_THRESHOLD, 512 << 20)  # the most that is kept for reuse


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    packages = {
        "metarl": "metarl-toolkit",
        "torch": "torch",
        "gymnasium": "gymnasium",
        "numpy": "numpy",
    }
    return {"python": platform.python_version(), **{k: version(p) for k, p in packages.items()}}


def git_commit() -> str | None:
    """The commit of the source tree, `-dirty` if it was modified; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
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
