"""A run killed at any moment and resumed is, byte for byte, the run that was never killed."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

SETTINGS = [
    "point-navigation",
    "--no-lr-decay",  # so that a run can be made longer, and be as if it had been so from the start
    "--iterations",
    "12",
    "--tasks",
    "3",
    "--episodes",
    "2",
    "--hidden",
    "8",
    "--threads",
    "1",
]
OFTEN = ["--save-every", "3", "--eval-every", "4", "--eval-steps", "1", "--device", "cpu"]


def metarl(*words, **how):
    return subprocess.Popen(
        [sys.executable, "-m", "metarl", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **how,
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def record(folder: Path):
    """The last checkpoint, and the metrics without wall-clock columns."""
    newest = max((folder / "checkpoints").glob("step-*.json"))
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [
            {k: v for k, v in row.items() if not k.startswith("time/")}
            for row in csv.DictReader(file)
        ]
    return newest.with_suffix(".safetensors").read_bytes(), json.loads(newest.read_text()), rows


def wait_for_line(folder: Path, line: int, process):
    path = folder / "metrics.csv"
    while not (path.exists() and len(path.read_text().splitlines()) > line):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    finish(metarl("train", *SETTINGS, *OFTEN, "--run", str(folder)))
    return record(folder)


@pytest.mark.parametrize("line", [1, 4, 8, 11])
def test_killed_and_resumed_equals_undisturbed(undisturbed, tmp_path, line):
    folder = tmp_path / "run"
    process = metarl("train", *SETTINGS, *OFTEN, "--run", str(folder))
    wait_for_line(folder, line, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finish(metarl("train", "--resume", str(folder)))
    assert record(folder) == undisturbed


def test_killed_while_saving_equals_undisturbed(undisturbed, tmp_path):
    """The worst moment: tensors are in place, their JSON is half-written, and so is a CSV line."""
    folder = tmp_path / "run"
    process = metarl("train", *SETTINGS, *OFTEN, "--run", str(folder))
    wait_for_line(folder, 7, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    newest = max((folder / "checkpoints").glob("step-*.json"))
    torn = folder / "checkpoints" / "step-000009"
    torn.with_suffix(".safetensors").write_bytes(b"half")
    torn.with_suffix(".json.part").write_text('{"format"')
    assert newest.stem < torn.name
    with (folder / "metrics.csv").open("a") as file:
        file.write("8,123,4")
    finish(metarl("train", "--resume", str(folder)))
    assert record(folder) == undisturbed


def test_ctrl_c_saves_and_says_how_to_go_on(undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = metarl("train", *SETTINGS, *OFTEN, "--run", str(folder))
    wait_for_line(folder, 5, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    saved = max((folder / "checkpoints").glob("step-*.json"))
    iteration = json.loads(saved.read_text())["iteration"]
    assert err.strip().splitlines()[-1] == (
        f"metarl: stopped; iteration {iteration} of 12 is saved; "
        f"resume with: metarl train --resume {folder}"
    )
    rows = (folder / "metrics.csv").read_text().splitlines()[1:]
    assert iteration >= len(rows) - 1
    finish(metarl("train", "--resume", str(folder)))
    assert record(folder) == undisturbed


def test_a_finished_run_goes_on_with_more_iterations(undisturbed, tmp_path):
    folder = tmp_path / "run"
    half = [*SETTINGS]
    half[half.index("--iterations") + 1] = "6"
    finish(metarl("train", *half, *OFTEN, "--run", str(folder)))
    finish(metarl("train", "--resume", str(folder), "--iterations", "12"))
    found, wanted = [list(each) for each in (record(folder), undisturbed)]
    for each in (found, wanted):  # its settings name another number of iterations
        each[1] = {k: v for k, v in each[1].items() if not k.endswith("sha256")}
    assert found == wanted


def test_no_file_of_a_run_needs_unpickling(tmp_path):
    folder = tmp_path / "run"
    finish(metarl("train", *SETTINGS, *OFTEN, "--run", str(folder)))
    files = [p for p in folder.rglob("*") if p.is_file() and "tfevents" not in p.name]
    kinds = {p.suffix for p in files if p.name != ".lock"}
    assert kinds == {".json", ".safetensors", ".csv", ".png", ".gif"}
    tensors = load_file(max((folder / "checkpoints").glob("*.safetensors")))
    assert any(k.startswith("opt/params/") for k in tensors)
