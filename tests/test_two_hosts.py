"""One run by two hosts: network namespaces with a cable between them, and a torchrun in each."""

import os
import shutil
import signal
import subprocess
import sys
from typing import NamedTuple

import pytest
from processes import WORLD, begin, finish, metarl, until, weights
from torch.testing import assert_close

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1"]
FIRST, SECOND = "10.77.7.1", "10.77.7.2"
SMALL = f"{WORLD} --iterations 6 --save-every 2 --threads 1 --quiet --run two"


class Host(NamedTuple):
    space: str  # the namespace, and its end of the cable
    address: str
    is_first: int
    folder: os.PathLike


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True)


def connect(one, two):
    """Two namespaces that see each other and nothing else; what `ip` says against it."""
    commands = [f"netns add {one}", f"netns add {two}"]
    commands += [f"link add {one} netns {one} type veth peer name {two} netns {two}"]
    for space, address in ((one, FIRST), (two, SECOND)):
        commands += [f"-n {space} addr add {address}/24 dev {space}"]
        commands += [f"-n {space} link set {device} up" for device in ("lo", space)]
    for command in commands:
        if (done := ip(*command.split())).returncode:
            return f"ip {command}: {done.stderr.strip()}"
    return None


@pytest.fixture
def hosts(tmp_path):
    """Both, each with a folder of its own; whatever runs there ends with the test."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need `ip` (iproute2) and root")
    found = []
    for number, address in enumerate((FIRST, SECOND)):
        folder = tmp_path / f"host{number}"
        folder.mkdir()
        found.append(Host(f"mrl{os.getpid()}-{number}", address, int(number == 0), folder))
    spaces = [host.space for host in found]
    try:
        if trouble := connect(*spaces):
            pytest.skip(f"no network namespaces here: {trouble}")
        yield found
    finally:
        for space in spaces:
            for number in ip("netns", "pids", space).stdout.split():
                os.kill(int(number), signal.SIGKILL)
            ip("netns", "del", space)


def begin_on(host, words):
    meeting = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{FIRST}:29400"]
    # Namespaces share their machine's name: so each is told its address, and who is the first.
    meeting += ["--local-addr", host.address, "--rdzv-conf", f"is_host={host.is_first}"]
    start = ["ip", "netns", "exec", host.space, *TORCHRUN, *meeting, "--rdzv-id", "two"]
    return begin(words, start=start, cwd=host.folder, GLOO_SOCKET_IFNAME=host.space)


def test_two_hosts_do_what_two_processes_of_one_do(hosts, tmp_path):
    both = [begin_on(host, SMALL) for host in hosts]
    for process in both:
        code, _, err = finish(process)
        assert code == 0, err
    assert list(hosts[1].folder.iterdir()) == []  # the first rank alone writes
    start = (*TORCHRUN[:3], "--standalone", "--nproc-per-node", "2")
    code, _, err = metarl(SMALL, start=start, cwd=tmp_path)
    assert code == 0, err
    found = weights(hosts[0].folder / "two", iteration=6)
    assert_close(found, weights(tmp_path / "two", iteration=6), rtol=0, atol=0)


def test_a_cut_cable_ends_the_run_on_both_hosts(hosts):
    first, second = hosts
    words = f"{SMALL} --iterations 4000 --rank-timeout 4"
    one, two = [begin_on(host, words) for host in hosts]
    until(lambda: (first.folder / "two" / "checkpoints" / "step-000004.json").exists())
    ip("-n", first.space, "link", "set", first.space, "down")
    code, _, err = finish(one, seconds=40)
    assert code == 1
    assert "rank 0 lost rank 1, which exited or gave no answer in 4 s" in err
    # Its torchrun asks for the first host for a minute and more.
    alone = [str(two.pid)]
    until(lambda: ip("netns", "pids", second.space).stdout.split() == alone, seconds=40)
    two.kill()
    _, _, err = finish(two)
    assert "rank 1 lost rank 0, which exited or gave no answer in 4 s" in err
