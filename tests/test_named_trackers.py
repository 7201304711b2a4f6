"""`--track tensorboard,csv,module:Class`: several trackers, also a user's by name."""

import json
from pathlib import Path

import pytest
from small import TINY, metarl, refused, small

from metarl import RunConfig, UsageError, open_run, start, train, train_in

USAGE = 2
WORDS = f"point-navigation {TINY} --no-lr-decay --threads 1 --quiet"
TRACKER = """
import json
from pathlib import Path

class Lines:
    def __init__(self, run):
        self.file = (run.folder / "lines.jsonl").open("a")

    def write(self, iteration, env_steps, metrics):
        print(json.dumps({"iteration": iteration, **metrics}), file=self.file)

    def close(self):
        self.file.close()

class Fails(Lines):
    def write(self, iteration, env_steps, metrics):
        raise OSError("no network")
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of trackers in the working folder, of a name that no other test uses."""
    monkeypatch.chdir(tmp_path)
    name = f"trackers_{tmp_path.name}".replace("-", "_").replace(".", "_")
    Path(f"{name}.py").write_text(TRACKER)
    return name


def lines(run):
    path = Path(run) / "lines.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else None


@pytest.mark.parametrize(
    ("track", "csv", "events"),
    [
        ("{mine}:Lines", False, False),
        ("csv,{mine}:Lines", True, False),
        ("{mine}:Lines, tensorboard", True, True),
    ],
)
def test_each_that_is_named_takes_the_metrics(mine, track, csv, events):
    track = track.format(mine=mine)
    train("point-navigation", run="run", track=track, iterations=2, tasks=2, episodes=2)
    assert [line["iteration"] for line in lines("run")] == [1, 2]
    assert "train/return_after" in lines("run")[0]
    assert Path("run/metrics.csv").exists() == csv
    assert bool(list(Path("run").glob("events*"))) == events
    assert open_run(Path("run")).run.track == track


@pytest.mark.parametrize("track", ["cvs", "", "csv,", "none,csv", "csv,csv", "a b:C", "x:y:z"])
def test_a_list_that_means_nothing_is_refused(mine, track):
    with pytest.raises(UsageError, match=r"--track .*give "):
        RunConfig(track=track)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere_at_all:T", "--track nowhere_at_all:T: ModuleNotFoundError"),
        ("{mine}:Missing", "has no attribute 'Missing'"),
    ],
)
def test_one_that_can_not_be_found_is_told_before_a_folder_is_made(mine, name, said):
    refused(f"train {WORDS} --run run --track", name.format(mine=mine), code=USAGE, parts=(said,))
    assert not Path("run").exists()


def test_an_error_in_one_names_it_and_not_the_disk(mine):
    parts = (f"tracker {mine}:Fails raised OSError: no network", f"{mine}.py, line 17")
    refused(f"train {WORDS} --run run --track csv,{mine}:Fails", code=1, parts=parts)


def test_a_folder_can_not_make_training_import_one(mine):
    run = RunConfig(track=f"csv,{mine}:Lines", eval_steps=1, threads=1)
    start(Path("run"), small("point-navigation", iterations=2), run)
    told = f"training this run would import {mine}:Lines"
    refused("train --resume run", code=USAGE, parts=(told, "give --trust"))
    with pytest.raises(UsageError, match=told):
        train_in(Path("run"), open_run(Path("run"), begin=True))
    assert lines("run") is None
    assert metarl("train --resume run --quiet --track", f"csv,{mine}:Lines")[0] == 0
    assert len(lines("run")) == 2
