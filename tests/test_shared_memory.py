"""Workers' memory is reserved before it is used: too little is told, and nobody gets a SIGBUS."""

import errno
import os
import shutil
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest

from metarl.envs import RunError
from metarl.envs.core.free_memory import free_memory, in_bytes
from metarl.envs.gym import shared_memory
from metarl.envs.gym.shared_memory import SharedMemory, receive


def test_both_sides_see_what_either_writes():
    ours, theirs = Pipe()
    memory = SharedMemory(4096)
    memory.send(ours, os.getpid())
    other = receive(theirs)
    np.ndarray((4,), "int64", memory.buf)[:] = range(4)
    assert np.ndarray((4,), "int64", other).tolist() == [0, 1, 2, 3]
    memory.close()
    assert np.ndarray((4,), "int64", other)[3] == 3


def test_what_does_not_fit_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(shared_memory, "free_memory", lambda: 64_000_000)
    with pytest.raises(
        RunError, match=r"need 1 GB of shared memory \(64 MB are free\).*--episodes"
    ):
        SharedMemory(10**9)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="there is nothing to reserve with")
def test_what_the_system_refuses_is_told_and_closed(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match=r"need 8\.19 kB of .*No space left on device"):
        SharedMemory(8192)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_sizes_are_readable():
    sizes = [in_bytes(x) for x in (0, 999, 64_000_000, 2.5e9, 3e15)]
    assert sizes == ["0 bytes", "999 bytes", "64 MB", "2.5 GB", "3e+03 TB"]


def test_free_memory_is_below_what_ulimit_leaves():
    """In a process of its own, whose limit is 4 GB."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30));"
        "from metarl.envs.core.free_memory import free_memory; print(free_memory())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(run.stdout) <= 4 << 30
    assert free_memory() > 0


# 40 episodes of a picture of 200 kB, where /dev/shm has room for a part of one.
PICTURES = """
import gymnasium, numpy as np, sys, torch
sys.path.insert(0, {tests!r})
import rough_environments
from metarl import GymnasiumFamily, Range, make_task
family = GymnasiumFamily("rough_environments:Large-v0", {{"pull": Range(-1.0, 1.0)}}, workers=1)
obs = family.simulate(make_task(family), 40, None).reset()
print(tuple(obs.shape))
family.close()
"""


def _may_mount():
    words = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    return shutil.which("unshare") and not subprocess.run(words, capture_output=True).returncode


@pytest.mark.skipif(not _may_mount(), reason="needs a mount namespace")
def test_a_small_dev_shm_is_no_limit():
    here = Path(__file__).parent
    mount = 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$0" -c "$1"'
    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, sys.executable, PICTURES.format(tests=str(here))],
        cwd=here.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("(1, 40, 1, 450, 450)\n")
