"""No process outlives the run that started it, nor does what environments started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# No `if __name__ == "__main__"`: a worker must not run the user's script again.
SCRIPT = """
import sys
import torch
sys.path.insert(0, {tests!r})
import gym_worlds
from metarl import GymnasiumFamily, Range, make_task

family = GymnasiumFamily(
    "gym_worlds:Counter-v0",
    {{"gain": Range(1.0, 2.0)}},
    fixed={{"folder": {folder!r}, "trouble": {trouble!r}, "at": 2, "program": True}},
    workers=2,
)
family.horizon
open({folder!r} + "/go", "w").close()
simulator = family.simulate(make_task(family), 4, torch.Generator())
simulator.reset()
print(*(p.pid for p, _ in family._pool._workers.values()), flush=True)
while True:
    simulator.step(torch.zeros(1, 4, 1))
    {then}
"""


def mask(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("then", "trouble", "stop"),
    [
        ("sys.exit()", None, None),
        ("raise ValueError('mine')", None, None),
        ("pass", None, signal.SIGINT),
        ("pass", None, signal.SIGTERM),
        ("pass", None, signal.SIGKILL),
        ("pass", "hang", signal.SIGKILL),
        ("pass", "hang without a thread", signal.SIGKILL),
        ("pass", "hang", signal.SIGINT),
        ("pass", "raise", None),
    ],
)
def test_nothing_is_left_behind(tmp_path, then, trouble, stop):
    words = {"tests": str(Path(__file__).parent), "folder": str(tmp_path), "trouble": trouble}
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(then=then, **words))
    run = subprocess.Popen(
        [sys.executable, str(script)],
        cwd=Path(__file__).parent.parent,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."},
    )
    try:
        first = run.stdout.readline()
        assert first, run.stderr.read()
        pids = [*first.split(), *(p.name.removeprefix("pid-") for p in tmp_path.glob("pid-*"))]
        assert len(pids) > 3
        assert all(map(mask, pids)) or trouble == "raise"  # which ends them at once
        if stop:
            time.sleep(0.3)
            run.send_signal(stop)
        _, err = run.communicate(timeout=60)
        assert "worker.py" not in err  # a traceback is the script's own, never a worker's
        until = time.monotonic() + 20
        while any(map(mask, pids)):
            assert time.monotonic() < until, "left behind"
            time.sleep(0.05)
    finally:
        run.kill()
        run.communicate()
