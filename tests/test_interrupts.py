"""Signals stop a run in order: what is reported saved is saved, however often Ctrl-C is pressed."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from processes import ENV, SMALL, begin, finish, metarl, until, weights
from torch.testing import assert_close

from metarl.system import signals as interrupts
from metarl.system.signals import STOPPING, finish_first, stop_on_signals

LONG = SMALL.replace("--iterations 40", "--iterations 4000")


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_waits_until_the_block_has_ended(number):
    done = []

    def save():
        with finish_first():
            signal.raise_signal(number)
            done.append("saved")
        done.append("never")

    with stop_on_signals(), pytest.raises(KeyboardInterrupt):
        save()
    assert done == ["saved"]


def test_only_the_first_signal_interrupts():
    saved = []
    with stop_on_signals():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            saved.append(True)
    assert saved


def test_a_run_that_did_not_stop_can_be_interrupted_again(monkeypatch):
    """Python swallows an interrupt in a destructor."""
    monkeypatch.setattr(interrupts, "IGNORED", 0.0)
    for _ in range(2):
        with stop_on_signals():
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)


def test_a_signal_that_is_ignored_stays_ignored():
    """As SIGHUP is under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals(), finish_first():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in STOPPING]
    with stop_on_signals(), finish_first():
        pass
    assert [signal.getsignal(number) for number in STOPPING] == before


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert metarl(f"{SMALL} --run {folder}") == (0, "", "")
    return folder


def rows(folder):
    path = folder / "metrics.csv"
    return path.read_text().count("\n") - 1 if path.exists() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_a_run_ends_saved_after_any_of_them_pressed_many_times(undisturbed, tmp_path, number):
    folder = tmp_path / "run"
    process = begin(f"{SMALL} --save-every 1000 --run {folder}")
    until(lambda: rows(folder) >= 3)
    for _ in range(20):
        process.send_signal(number)
    code, _, err = finish(process)
    saved = max((folder / "checkpoints").glob("step-*.json"))
    iteration = json.loads(saved.read_text())["iteration"]
    assert code == 130
    assert err == (
        f"metarl: stopped; iteration {iteration} of 40 is saved; "
        f"resume with: metarl train --resume {folder}\n"
    )
    assert rows(folder) - 1 <= iteration <= rows(folder)
    assert metarl(f"--resume {folder} --quiet") == (0, "", "")
    assert_close(weights(folder), weights(undisturbed), rtol=0, atol=0)


def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path):
    folder = tmp_path / "run"
    words = f"train {SMALL.replace(' --quiet', '')} --iterations 4 --run {folder}"
    process = subprocess.Popen(
        [sys.executable, "-m", "metarl", *words.split()],
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0
    assert (folder / "evaluation.json").exists()


def test_output_that_is_closed_or_has_few_letters_is_no_trouble(tmp_path):
    closed = ["sh", "-c", 'exec "$0" -m metarl families >&-', sys.executable]
    assert subprocess.run(closed, env=ENV, check=False).returncode == 0
    for letters in ("ascii", "cp1252"):
        run = subprocess.run(
            [sys.executable, "-m", "metarl", "families"],
            env={**ENV, "PYTHONIOENCODING": letters, "COLUMNS": "60"},
            capture_output=True,
            check=False,
        )
        assert (run.returncode, run.stderr) == (0, b"")
        assert b"forager" in run.stdout


def test_a_folder_that_is_deleted_ends_the_run_in_one_line(tmp_path):
    folder = tmp_path / "run"
    process = begin(f"{LONG} --run {folder}")
    until(lambda: rows(folder) >= 3)
    os.rename(folder, tmp_path / "aside")  # at once, where deleting takes a while
    shutil.rmtree(tmp_path / "aside")
    code, _, err = finish(process)
    assert code == 1
    assert (
        err == f"metarl: {folder} was deleted while metarl was writing to it. Nothing is saved.\n"
    )
    assert not folder.exists()


def test_a_folder_that_is_renamed_has_the_last_state(tmp_path):
    folder, moved = tmp_path / "run", tmp_path / "moved"
    process = begin(f"{LONG} --save-every 1000 --run {folder}")
    until(lambda: rows(folder) >= 3)
    folder.rename(moved)
    code, _, err = finish(process)
    assert code == 1
    assert f"{folder} was renamed to {moved} while metarl was writing to it" in err
    assert f"resume with: metarl train --resume {moved}" in err
    assert err.count("\n") == 1
    assert not folder.exists()
    last = int(max((moved / "checkpoints").glob("step-*.json")).stem.removeprefix("step-"))
    assert last >= 3
    assert metarl(f"--resume {moved} --iterations {last + 1} --no-lr-decay --quiet") == (0, "", "")
