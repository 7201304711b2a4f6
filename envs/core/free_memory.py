"""How much memory this process may still take."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
# Limit, use, and what of the use is given back when needed: of both versions of control groups.
LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory() -> int:
    """Bytes: of the machine, the container and `ulimit -v`, whichever has the least.

    Where the system doesn't say, as on macOS, more than there is.
    """
    return min(_of_machine(), _of_container(), _of_process())


def in_bytes(size: float) -> str:
    """`1.5 GB`."""
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
    """Of a container's control group; it sees its own at the root."""
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
