"""Who is told what a run measures: the record, TensorBoard, and a user's own trackers."""

import csv
import json
import subprocess
import sys

import pytest
import torch
from reference import draw
from small import metarl, refused, small
from tracking_cost import cost

from metarl import RunConfig, open_run, start, train_in
from metarl.envs import FAMILIES, SPLITS, task_values
from metarl.experiment.loaded_run import Run
from metarl.experiment.periodic_eval import evaluate_validation
from metarl.outer.train_state import TrainState
from metarl.tracking.metric_names import SUCCESS, columns, layout
from metarl.tracking.trackers import CsvTracker, Trackers
from metarl.training.meta_train import new_agent

SETTINGS = (
    "point-navigation --iterations 4 --tasks 2 --episodes 2 --hidden 8 --eval-every 2 "
    "--eval-steps 1 --quiet --threads 1 --no-lr-decay"
)


class Mine:
    """Three lines, as a user writes them; and a note of what came."""

    def __init__(self, fail_at=None):
        self.rows, self.closed, self.fail_at = [], 0, fail_at

    def write(self, iteration, env_steps, metrics):
        if iteration == self.fail_at:
            raise ConnectionError("no network")
        self.rows.append((iteration, env_steps, dict(metrics)))

    def close(self):
        self.closed += 1


class MineWithHistograms(Mine):
    def __init__(self):
        super().__init__()
        self.distributions = {}

    def histograms(self, env_steps, values):
        self.distributions[env_steps] = values


def job_in(folder, **run):
    cfg = small("point-navigation", iterations=4)
    return start(folder, cfg, RunConfig(eval_every=2, eval_steps=1, threads=1, **run))


def record(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def learned(folder):
    """The record without wall-clock columns."""
    return [{k: v for k, v in r.items() if not k.startswith("time/")} for r in record(folder)]


def test_a_tracker_of_ones_own_gets_the_record_line_by_line_and_is_closed(tmp_path):
    mine, more = Mine(), MineWithHistograms()
    train_in(tmp_path / "run", job_in(tmp_path / "run"), trackers=[mine, more])
    rows = record(tmp_path / "run")
    assert [(i, n) for i, n, _ in mine.rows] == [
        (int(r["iteration"]), int(r["env_steps"])) for r in rows
    ]
    for (_, _, metrics), row in zip(mine.rows, rows, strict=True):
        recorded = {k: v for k, v in row.items() if "/" in k and v}
        assert {k: str(v) for k, v in metrics.items()} == recorded
    assert (mine.closed, more.closed, more.rows) == (1, 1, mine.rows)
    assert list(more.distributions) == [int(rows[1]["env_steps"]), int(rows[3]["env_steps"])]
    assert "weight_change/layers.0" in more.distributions[int(rows[1]["env_steps"])]


def test_a_tracker_that_fails_loses_nothing_and_leaves_none_open(tmp_path):
    folder, mine, other = tmp_path / "run", Mine(fail_at=3), Mine()
    with pytest.raises(ConnectionError):
        train_in(folder, job_in(folder), trackers=[mine, other])
    assert (mine.closed, other.closed) == (1, 1)
    state = train_in(folder, open_run(folder))
    whole = tmp_path / "whole"
    unhurt = train_in(whole, job_in(whole))
    assert learned(folder) == learned(whole)
    for name, weight in unhurt.agent.params.items():
        assert torch.equal(weight, state.agent.params[name])


def test_one_that_fails_to_close_leaves_no_other_open():
    class Stubborn(Mine):
        def close(self):
            raise OSError("busy")

    mine = [Mine(), Stubborn(), Mine()]
    with pytest.raises(OSError, match="busy"):
        Trackers(mine).close()
    assert (mine[0].closed, mine[2].closed) == (1, 1)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """The same run under each value of --track, and what was printed."""
    runs = tmp_path_factory.mktemp("runs")
    out = {}
    for track in ("tensorboard", "csv", "none"):
        words = SETTINGS.replace("--quiet", "")
        code, out[track], err = metarl("train", words, f"--track {track} --run", runs / track)
        assert code == 0, err
    return runs, out


def test_track_says_what_is_written(tracked):
    runs, out = tracked
    for track, board, table in (("tensorboard", 1, 1), ("csv", 0, 1), ("none", 0, 0)):
        assert bool(list((runs / track).glob("events.*"))) == board
        assert (runs / track / "metrics.csv").exists() == table
        assert (runs / track / "gain.png").exists()
        assert (f"tensorboard --logdir {runs}" in out[track]) == board


def test_track_changes_nothing_that_is_learned(tracked):
    runs, _ = tracked
    assert learned(runs / "tensorboard") == learned(runs / "csv")
    evaluated = {
        (runs / t / "evaluation.json").read_bytes() for t in ("tensorboard", "csv", "none")
    }
    assert len(evaluated) == 1


@pytest.mark.parametrize("name", ["forager", "word-guess", "maze"])
def test_no_evaluation_during_training_plays_a_task_of_the_test_or_of_training(name):
    played, cfg = [], small(name)

    class Watched(FAMILIES[name]):
        def reset(self, task, noise):
            played.extend(tuple(row.values()) for row in task_values(task))
            return super().reset(task, noise)

    family = Watched()
    state = TrainState(new_agent(cfg, family))
    played.clear()  # a new agent may have looked at tasks of training
    evaluate_validation(Run(cfg, RunConfig(eval_steps=1), family, state), state)
    seen = {
        split: {tuple(t.values()) for t in task_values(draw(family, 4000, split))}
        for split in SPLITS[:3]
    }
    assert set(played) <= seen["validation"]
    assert len(set(played)) >= 10
    assert not seen["validation"] & (seen["train"] | seen["test"])


def test_evaluate_on_validation_tasks_repeats_the_last_evaluation_of_training(tracked):
    runs, _ = tracked
    code, out, err = metarl(
        "evaluate --split validation --json - --steps 1 --episodes 2", runs / "csv"
    )
    assert code == 0, err
    row, mean = record(runs / "csv")[-1], json.loads(out)["return_mean"]
    assert [float(row[f"eval/return_step_{k}"]) for k in (0, 1)] == mean


def test_a_run_goes_on_as_it_was_tracked(tracked, tmp_path):
    runs, _ = tracked
    parts = ("track csv, not none", "leave that out")
    refused("train --track none --resume", runs / "csv", code=2, parts=parts)
    code, _, err = metarl("train --quiet --iterations 6 --resume", runs / "csv")
    assert code == 0, err
    assert [r["iteration"] for r in record(runs / "csv")] == [str(i) for i in range(1, 7)]
    assert not list((runs / "csv").glob("events.*"))


def test_the_layout_has_charts_of_what_is_written_alone():
    whole, none = layout(columns(1, success=True, inner=True)), layout(columns(1))
    assert sum(map(len, whole.values())) == sum(map(len, none.values())) + 3
    titles = [title for charts in none.values() for title in charts]
    assert not [t for t in titles if "success" in t or "step size" in t]
    assert list(SUCCESS) in whole["1. Does it adapt?"].values()


def test_what_is_not_used_is_not_loaded(tmp_path):
    code = f"""
import sys
from metarl.cli.main import main
main(["train", *{SETTINGS.split()!r}, "--track", "csv", "--run", "run"])
assert "tensorboard" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_tracking_costs_less_than_a_fiftieth_of_a_run_even_if_evaluated_often():
    _, tracking, whole = cost("forager", iterations=5)
    assert tracking < 0.02 * (whole - tracking)


def test_a_memory_has_no_columns_of_inner_steps(tmp_path):
    words = "train bandit --algo rl2 --iterations 2 --tasks 4 --hidden 8 --eval-every 1 --quiet"
    code, _, err = metarl(words, "--eval-steps 1 --run", tmp_path / "run")
    assert code == 0, err
    assert not [name for name in record(tmp_path / "run")[0] if name.startswith("inner/")]


def test_going_on_cuts_the_record_to_the_checkpoint(tmp_path):
    path, header = tmp_path / "metrics.csv", columns(1)
    tracker = CsvTracker(path, header, 0)
    for it in range(1, 6):
        tracker.write(it, 10 * it, {"train/kl": 0.1 * it})
    tracker.close()
    with path.open("a") as file:
        file.write("6,60,0.5")  # the power went
    CsvTracker(path, header, 3).close()
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join(header)
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"]
