"""Free memory available to this process."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
# Limit, usage, and reclaimable part of the usage, for cgroups v2 and v1.
LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory() -> int:
    """Free bytes: the minimum for the machine, the container and `ulimit -v`.

    `sys.maxsize` on systems that don't report it, such as macOS.
    """
    return min(_of_machine(), _of_container(), _of_process())


def in_bytes(size: float) -> str:
    """Format a size in bytes, for example `1.5 GB`."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"


def _of_machine() -> int:
    with suppress(OSError, StopIteration):
        lines = (PROC / "meminfo").read_text().splitlines()
        return 1024 * int(next(x for x in lines if x.startswith("MemAvailable")).split()[1])
    return sys.maxsize


def _of_container() -> int:
    """Free memory of the container's control group, which it sees at the root."""
    for limit, use, cache in LIMITS:
        with suppress(OSError, ValueError):  # "max": no limit
            most, used = (int((CGROUP / name).read_text()) for name in (limit, use))
            stat = (CGROUP / use).with_name("memory.stat").read_text().split()
            return most - used + int(stat[stat.index(cache) + 1])
    return sys.maxsize


def _of_process() -> int:
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        return sys.maxsize
    with suppress(OSError):
        pages = int((PROC / "self/statm").read_text().split()[0])
        return max(most - pages * resource.getpagesize(), 0)
    return most
