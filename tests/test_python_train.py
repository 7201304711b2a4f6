"""`metarl.train`: what `metarl train` does, from Python."""

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from small import TINY, metarl

from metarl import UsageError, load, make_family, open_run, train
from metarl.config.settings_file import read_config
from metarl.envs.classic_control.point_navigation import PointNavigation

SMALL = {"iterations": 2, "tasks": 2, "episodes": 2, "hidden": (8,), "eval_steps": 1, "threads": 1}


@dataclass(frozen=True)
class Ferry(PointNavigation):
    name: ClassVar[str] = "ferry"


def learned(folder):
    """All that a run leaves but for times, pictures of TensorBoard, and its lock."""
    rows = (folder / "metrics.csv").read_text().splitlines()
    timed = {i for i, name in enumerate(rows[0].split(",")) if name.startswith("time/")}
    kept = [[x for i, x in enumerate(row.split(",")) if i not in timed] for row in rows]
    paths = [p for p in folder.rglob("*") if p.is_file() and "tfevents" not in p.name]
    left = {str(p.relative_to(folder)): p.read_bytes() for p in paths if p.name != ".lock"}
    return {**left, "metrics.csv": kept}


@pytest.mark.parametrize(
    ("words", "family", "settings"),
    [
        ("bandit --algo rl2 --seed 3", "bandit", {"algo": "rl2", "seed": 3}),
        ("point-navigation", make_family("point-navigation"), {"hidden": [8]}),
        (
            "CartPole-v1 --vary length=0.3:0.9 --set max_episode_steps=5 --workers 1",
            "CartPole-v1",
            {"vary": ["length=0.3:0.9"], "set": ["max_episode_steps=5"], "workers": 1},
        ),
    ],
    ids=["name", "object", "gymnasium"],
)
def test_a_run_is_that_of_the_command_to_the_last_bit(tmp_path, words, family, settings):
    assert metarl("train", words, TINY, "--threads 1 --quiet --run", tmp_path / "command")[0] == 0
    run = train(family, run=tmp_path / "python", **{**SMALL, **settings})
    want, got = learned(tmp_path / "command"), learned(tmp_path / "python")
    assert set(got) >= {"config.json", "evaluation.json", "checkpoints/step-000002.safetensors"}
    assert got.keys() == want.keys()
    assert [name for name in want if got[name] != want[name]] == []
    assert run.folder == tmp_path / "python"


def test_a_run_has_all_that_was_made_and_is_found_again(tmp_path):
    run = train("point-navigation", run=str(tmp_path / "run"), **SMALL)
    assert (run.state.iteration, run.agent) == (2, run.state.agent)
    assert run.family == make_family("point-navigation")
    assert run.evaluation.steps == 1
    record = json.loads((run.folder / "evaluation.json").read_text())
    assert run.evaluation.mean.tolist() == record["return_mean"]
    again = open_run(run.folder)
    assert again.folder == run.folder
    np.testing.assert_array_equal(again.evaluation.returns, run.evaluation.returns)
    for name, weight in load(run.folder).params.items():
        assert (weight == run.agent.params[name]).all()


def test_an_evaluation_of_fewer_iterations_is_not_that_of_the_run(tmp_path):
    run = train("point-navigation", run=tmp_path / "run", lr_decay=False, **SMALL)
    words = f"train --resume {run.folder} --iterations 3 --quiet"
    text = (run.folder / "evaluation.json").read_text()
    assert metarl(words)[0] == 0
    assert open_run(run.folder).evaluation is not None
    (run.folder / "evaluation.json").write_text(text)
    assert open_run(run.folder).evaluation is None


def test_without_a_folder_it_takes_the_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20300101-000000")
    first, second = (train("point-navigation", track="none", **SMALL).folder for _ in "ab")
    assert first == Path("runs/point-navigation-promp-s0-20300101-000000")
    assert second == Path("runs/point-navigation-promp-s0-20300101-000000-2")


def test_a_family_object_of_ones_own_is_recorded_by_its_class(tmp_path):
    run = train(Ferry(horizon=7), run=tmp_path / "run", track="none", **SMALL)
    assert read_config(run.folder)[0].family == f"{__name__}:Ferry"
    assert load(run.folder, trust=True)
    assert open_run(run.folder, trust=True).family == Ferry(horizon=7)


def test_a_changed_family_of_metarl_keeps_its_preset(tmp_path):
    family = dataclasses.replace(make_family("point-navigation"), horizon=5)
    run = train(family, run=tmp_path / "run", track="none", **SMALL)
    assert run.train.inner_steps == 3  # as shipped for it
    assert open_run(run.folder).family.horizon == 5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"iteration": 3}, r"train\(iteration=...\): no such setting, but iterations, .*; give"),
        ({"zzzzz": 3}, r"train\(zzzzz=...\): no such setting; give one that"),
        ({"tasks": 0}, "--tasks 0: out of range"),
        ({"algo": "mmal"}, "--algo mmal: unknown"),
        ({"processes": 2}, r"train\(processes=2\): .* `metarl train .* --processes 2`"),
        ({"track": "cvs"}, "--track cvs: unknown tracker 'cvs'"),
    ],
    ids=str,
)
def test_what_can_not_be_is_told_in_a_line_and_leaves_no_folder(tmp_path, settings, said):
    with pytest.raises(UsageError, match=said) as error:
        train("point-navigation", run=tmp_path / "run", **settings)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


PRINTS = """
import metarl
for quiet in (True, False):
    print(quiet, flush=True)
    metarl.train("point-navigation", run=f"{folder}/{quiet}", quiet=quiet, iterations=2, tasks=2)
"""


def test_it_prints_only_when_told_to(tmp_path):
    code = PRINTS.replace("{folder}", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    silent, loud = done.stdout.removeprefix("True\n").split("False\n")
    assert (silent, done.stderr) == ("", "")
    assert "2/2" in loud
