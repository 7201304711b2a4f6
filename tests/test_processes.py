"""One run by several processes: who writes, who is missed, and what a restart leads to."""

import os
import signal
import sys
from pathlib import Path

import pytest
from processes import SMALL, begin, finish, metarl, until, weights
from torch.testing import assert_close

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


SLOW = """
import time
from metarl.envs.classic_control.point_navigation import PointNavigation

class Slow(PointNavigation):
    def reset(self, task, noise):
        time.sleep(3.0 * (len(noise) == 40))  # tasks of an evaluation
        return super().reset(task, noise)
"""


def rank_of(number, folder):
    """Process id of that rank of the run, or None."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().decode().split("\0")
            named = f"RANK={number}".encode() in (path / "environ").read_bytes().split(b"\0")
        except OSError:  # gone, or another user's
            continue
        if named and str(folder) in words:
            return int(path.name)
    return None


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert metarl(f"{SMALL} --processes 2 --run {folder}") == (0, "", "")
    return folder


def test_the_first_rank_alone_writes(undisturbed):
    rows = (undisturbed / "metrics.csv").read_text().splitlines()
    assert len(rows) == 41
    steps = [int(row.split(",")[1]) for row in rows[1:]]
    # Four rollouts of 4 episodes of 100 steps at most: the first rank has 3 of the 5 tasks.
    assert 3 * 1600 < steps[0] <= 5 * 1600
    assert (undisturbed / "evaluation.json").exists()
    # One of training, one of the evaluation at its end.
    assert len(list(undisturbed.glob("events.out.tfevents*"))) == 2


def test_torchrun_does_the_same(undisturbed, tmp_path):
    folder = tmp_path / "new"
    assert metarl(f"{SMALL} --run {folder}", start=TORCHRUN)[0] == 0
    assert_close(weights(folder), weights(undisturbed), rtol=0, atol=0)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("start", [(sys.executable,), (*TORCHRUN, "--max-restarts", "2")])
def test_a_killed_rank_costs_nothing_but_time(undisturbed, tmp_path, number, start):
    folder = tmp_path / "new"
    more = "--processes 2 " if len(start) == 1 else ""
    process = begin(f"{SMALL} {more}--run {folder}", start=start)
    until(lambda: (folder / "checkpoints" / "step-000004.json").exists())
    os.kill(rank_of(number, folder), signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 0, err
    if more:
        assert f"rank {number} was killed by SIGKILL: all ranks restart" in err
    assert_close(weights(folder), weights(undisturbed), rtol=0, atol=0)
    iterations = [r.split(",")[0] for r in (folder / "metrics.csv").read_text().splitlines()[1:]]
    assert iterations == [str(i + 1) for i in range(40)]


def test_a_hung_rank_is_named(tmp_path):
    folder = tmp_path / "new"
    process = begin(f"{SMALL} --iterations 4000 --processes 2 --rank-timeout 4 --run {folder}")
    until(lambda: (folder / "checkpoints" / "step-000004.json").exists())
    os.kill(rank_of(1, folder), signal.SIGSTOP)
    code, _, err = finish(process)
    assert code == 1
    assert "rank 0 lost rank 1, which exited or gave no answer in 4 s" in err
    assert rank_of(1, folder) is None


def listening(pid):
    """Addresses, in hexadecimal, on which a process listens."""
    inodes = {os.readlink(p) for p in Path(f"/proc/{pid}/fd").iterdir() if p.is_symlink()}
    rows = []
    for name in ("tcp", "tcp6"):
        rows += [line.split() for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()]
    return {r[1].split(":")[0] for r in rows if r[3] == "0A" and f"socket:[{r[9]}]" in inodes}


def test_processes_of_one_machine_listen_on_its_loopback_alone(tmp_path):
    folder = tmp_path / "new"
    process = begin(f"{SMALL} --iterations 4000 --processes 2 --run {folder}")
    until(lambda: (folder / "checkpoints" / "step-000004.json").exists())
    ranks = [rank_of(number, folder) for number in (0, 1)]
    found = [listening(pid) for pid in (process.pid, *ranks)]
    process.terminate()
    assert finish(process)[0] == 130
    assert found[0] == set()
    assert found[1] | found[2] == {"0100007F"}  # 127.0.0.1


def test_ranks_end_saved_when_their_parent_does(tmp_path):
    folder = tmp_path / "new"
    process = begin(f"{SMALL} --iterations 4000 --processes 2 --run {folder}")
    until(lambda: (folder / "checkpoints" / "step-000004.json").exists())
    process.kill()
    process.wait()
    until(lambda: rank_of(0, folder) is None and rank_of(1, folder) is None, seconds=30)
    saved = max((folder / "checkpoints").glob("step-*.json"))
    rows = (folder / "metrics.csv").read_text().count("\n") - 1
    assert int(saved.stem.removeprefix("step-")) >= rows - 1


def test_an_evaluation_may_take_longer_than_the_time_out(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    words = f"{SMALL} --eval-every 1 --iterations 1 --processes 2 --rank-timeout 4 --run run"
    code, _, err = metarl(words.replace("point-navigation", "slow:Slow"), cwd=tmp_path)
    assert (code, err) == (0, "")


def test_a_world_size_that_is_no_number_is_named(tmp_path):
    code, _, err = metarl(f"{SMALL} --run {tmp_path / 'new'}", WORLD_SIZE="x")
    assert (code, err.count("\n")) == (2, 1)
    assert "WORLD_SIZE is 'x', not an integer" in err


def test_another_number_of_processes_goes_on_and_says_so(undisturbed, tmp_path):
    folder = tmp_path / "new"
    assert metarl(f"{SMALL} --no-lr-decay --iterations 4 --processes 2 --run {folder}")[0] == 0
    words = f"--resume {folder} --iterations 6 --processes 1"
    code, out, err = metarl(words.replace("--quiet", ""))
    assert code == 0, err
    assert "was started with 2 processes and resumes with 1" in out
    assert (folder / "checkpoints" / "step-000006.json").exists()


def test_every_process_needs_a_task(tmp_path):
    code, _, err = metarl(f"{SMALL} --tasks 1 --processes 2 --run {tmp_path / 'new'}")
    assert code == 2
    assert "--tasks 1 with 2 processes" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("more", [(), ("--max-restarts", "1")])
def test_torchrun_needs_no_folder(tmp_path, more):
    start = (*TORCHRUN[:3], "--nproc-per-node", "2", *more)
    code, _, err = metarl(SMALL.replace("40", "2"), start=start, cwd=tmp_path)
    assert code == 0, err
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "evaluation.json").exists()
