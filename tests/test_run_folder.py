"""A run's folder is made once and written to by one process at a time."""

import json
import os
import subprocess
import sys
import time

import pytest
from processes import ENV, SMALL, begin, finish, metarl, until
from small import metarl as metarl_here

from metarl.envs import RunError, UsageError
from metarl.experiment.run_folder import FolderTaken, hold, new_folder

HOLD = """
import sys, time
from pathlib import Path
from metarl.experiment.run_folder import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_that_another_process_holds_is_refused_and_the_process_named(tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, env=ENV
    )
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=f"in use by process {other.pid} on "), hold(tmp_path):
            pass
    finally:
        other.kill()
        other.wait()
    with hold(tmp_path), hold(tmp_path):  # free once the process is gone, and held more than once
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_text("content")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".lock").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"), hold(folder):
        pass
    assert target.read_text() == "content"


def test_a_folder_with_anything_in_it_is_not_a_new_one(tmp_path):
    with new_folder(tmp_path / "run"):
        (tmp_path / "run" / "config.json").write_text("{}")
    for place in (tmp_path / "run", tmp_path / "run" / "config.json"):
        with pytest.raises(FolderTaken), new_folder(place):
            pass


def test_a_folder_that_goes_is_noticed(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with hold(folder) as held:
        held.check()
        folder.rename(tmp_path / "moved")
        folder.mkdir()  # another one of the same name is not it
        assert held.place() == tmp_path / "moved"
        with pytest.raises(RunError, match=f"was renamed to {tmp_path / 'moved'}"):
            held.check()


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda form: "20260101-000000")
    for seed in ("0", "0"):
        words = f"{SMALL} --iterations 1 --seed {seed}"
        assert metarl_here("train", *words.split()) == (0, "", "")
    name = "point-navigation-promp-s0-20260101-000000"
    assert sorted(os.listdir("runs")) == [name, f"{name}-2"]
    for folder in (name, f"{name}-2"):
        assert (tmp_path / "runs" / folder / "evaluation.json").exists()


def test_two_processes_do_not_resume_one_run(tmp_path):
    folder = tmp_path / "run"
    first = begin(f"{SMALL} --iterations 400 --run {folder}")
    until(lambda: (folder / "checkpoints" / "step-000004.json").exists())
    code, out, err = metarl(f"--resume {folder} --quiet")
    assert (code, out) == (2, "")
    assert f"{folder} is in use by process {first.pid} on " in err
    assert err.count("\n") == 1
    first.terminate()
    finish(first)
    rows = (folder / "metrics.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, len(rows) + 1))


def test_a_log_shows_progress(tmp_path, monkeypatch):
    monkeypatch.setattr("metarl.experiment.progress.LOG_EVERY", 0.0)
    words = f"{SMALL.replace('--quiet', '')} --iterations 3 --run {tmp_path / 'run'}"
    code, out, _ = metarl_here("train", *words.split())
    assert code == 0
    for iteration in (1, 2, 3):
        assert f"iteration {iteration}/3, " in out
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())
