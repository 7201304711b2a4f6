"""`--callback` and `callback=`: called with each state, and may stop training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from processes import metarl as in_processes
from small import TINY, metarl, refused, small

from metarl import RunConfig, RunError, UsageError, open_run, start, train, train_in

USAGE = 2
WORDS = f"point-navigation {TINY} --no-lr-decay --threads 1 --iterations 4"
SMALL = {"tasks": 2, "episodes": 2, "hidden": (8,), "eval_steps": 1, "lr_decay": False}
RULES = """
import os
from pathlib import Path

def note(state):
    with Path("called").open("a") as file:
        file.write(f"{os.environ.get('RANK', 0)}:{state.iteration} ")

def at_three(state):
    note(state)
    return state.iteration == 3

def fails(state):
    raise ValueError(f"at {state.iteration}")

def value(state):
    return state.metrics["train/return_after"]

NUMBER = 3
"""


@pytest.fixture
def rules(tmp_path, monkeypatch):
    """A module of callbacks in the working folder, of a name that no other test uses."""
    monkeypatch.chdir(tmp_path)
    name = f"rules_{tmp_path.name}".replace("-", "_").replace(".", "_")
    Path(f"{name}.py").write_text(RULES)
    return name


def called():
    return Path("called").read_text().split() if Path("called").exists() else []


def last_saved(folder):
    return sorted(p.stem for p in (folder / "checkpoints").glob("*.json"))[-1]


@pytest.mark.parametrize("quiet", ["", "--quiet"])
def test_it_is_called_with_each_state_and_stops_training_cleanly(rules, quiet):
    code, out, err = metarl("train", WORDS, f"--callback {rules}:at_three --run run", quiet)
    assert (code, err) == (0, "")
    assert called() == ["0:1", "0:2", "0:3"]
    assert last_saved(Path("run")) == "step-000003"
    assert len(Path("run/metrics.csv").read_text().splitlines()) == 4
    trained = json.loads(Path("run/evaluation.json").read_text())["env_steps_trained"]
    assert trained == open_run(Path("run")).state.env_steps
    said = f"stopped after iteration 3 of 4: {rules}:at_three returned True"
    assert (said in out) == (quiet == "")


def test_a_stopped_run_goes_on_to_where_it_would_have_got_without(rules):
    assert metarl("train", WORDS, f"--callback {rules}:at_three --run stopped --quiet")[0] == 0
    assert metarl(f"train --resume stopped --callback {rules}:at_three --quiet")[0] == 0
    assert metarl("train", WORDS, "--run whole --quiet")[0] == 0
    assert called() == ["0:1", "0:2", "0:3", "0:4"]
    one, other = (
        Path(f"{run}/checkpoints/step-000004.safetensors") for run in ("stopped", "whole")
    )
    assert one.read_bytes() == other.read_bytes()


def test_several_are_all_called_though_the_first_stops(tmp_path):
    seen = []
    rules = [lambda state: True, seen.append, lambda state: np.bool_(False)]
    run = train("point-navigation", run=tmp_path / "run", callback=rules, iterations=4, **SMALL)
    assert (run.state.iteration, [s.iteration for s in seen]) == (1, [1])
    assert open_run(run.folder).state.iteration == 1
    assert seen[0].agent is run.agent


def test_a_name_is_recorded_and_a_function_is_not(rules):
    both = [f"{rules}:note", lambda state: None]
    run = train("point-navigation", run="run", callback=both, iterations=1, **SMALL)
    assert called() == ["0:1"]
    assert open_run(run.folder).run.callback == (f"{rules}:note",)


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        ("nowhere_at_all:f", "--callback nowhere_at_all:f: ModuleNotFoundError"),
        ("{rules}:nothing", "has no attribute 'nothing'"),
        ("{rules}:NUMBER", "int can't be called"),
        ("at_three", "--callback at_three: give module:function"),
    ],
)
def test_a_name_that_is_none_is_told_before_a_folder_is_made(rules, callback, said):
    words = f"--callback {callback.format(rules=rules)} --run run"
    refused("train", WORDS, words, code=USAGE, parts=(said,))
    assert not Path("run").exists()


def test_an_error_in_it_is_told_with_its_place_and_loses_nothing(rules):
    named = f"{rules}:fails"
    parts = (
        f"callback {named} raised ValueError: at 1",
        f"{rules}.py, line 14",
        "Iteration 1 of 4",
    )
    refused("train", WORDS, f"--callback {named} --quiet --run run", code=1, parts=parts)
    assert last_saved(Path("run")) == "step-000001"


def test_an_answer_that_may_be_a_mistake_is_refused(rules):
    parts = (f"callback {rules}:value returned -", "return True to stop training, else False or")
    refused("train", WORDS, f"--callback {rules}:value --quiet --run run", code=USAGE, parts=parts)
    assert last_saved(Path("run")) == "step-000001"


def test_in_python_an_error_keeps_its_cause(tmp_path):
    with pytest.raises(RunError, match=r"callback .*<lambda> raised ZeroDivisionError") as error:
        train("point-navigation", run=tmp_path / "run", callback=lambda s: 1 / 0, **SMALL)
    assert isinstance(error.value.__cause__, ZeroDivisionError)


@pytest.fixture
def folder(rules):
    """Of a run that names a callback, as someone else may hand it over."""
    cfg = small("point-navigation", iterations=2)
    start(Path("run"), cfg, RunConfig(callback=(f"{rules}:note",), eval_steps=1, threads=1))
    return Path("run")


def test_a_folder_can_not_make_training_import_what_it_names(rules, folder):
    told = f"run/config.json: training this run would import {rules}:note: give --trust"
    refused("train --resume run", code=USAGE, parts=(told,))
    refused("train --resume run --processes 2", code=USAGE, parts=(told,))
    other = f"train --resume run --callback {rules}:note --callback {rules}:at_three --quiet"
    with pytest.raises(UsageError, match=f"would import {rules}:note: open it with trust=True"):
        train_in(folder, open_run_of(folder))
    assert called() == []
    assert metarl(other)[0] == 0


def open_run_of(folder):
    """The run at its start, as nobody's."""
    return open_run(folder, begin=True)


@pytest.mark.parametrize("how", ["--trust", "--callback {rules}:note"])
def test_with_trust_or_the_name_typed_it_does(rules, folder, how):
    assert metarl("train --resume run --quiet", how.format(rules=rules))[0] == 0
    assert called() == ["0:1", "0:2"]
    assert train_in(folder, open_run(folder, trust=True)).iteration == 2


def test_a_name_that_is_typed_takes_the_place_of_the_folders(rules, folder):
    assert metarl(f"train --resume run --callback {rules}:at_three --iterations 4 --quiet")[0] == 0
    assert called() == ["0:1", "0:2", "0:3"]


def test_other_commands_import_none_of_it(rules, folder):
    assert metarl("train --resume run --quiet --trust")[0] == 0
    Path(f"{rules}.py").write_text("raise SystemExit('imported')")
    for words in (
        "evaluate run --tasks 2 --episodes 2 --steps 0",
        "compare run --tasks 2 --steps 0",
    ):
        assert metarl(words)[0] == 0


def test_of_several_processes_the_first_calls_it_and_all_stop(rules):
    words = f"{WORDS} --save-every 3 --callback {rules}:at_three --processes 2"
    code, out, err = in_processes(f"{words} --run run")
    assert (code, err) == (0, "")
    assert "stopped after iteration 3 of 4" in out
    assert called() == ["0:1", "0:2", "0:3"]
    assert last_saved(Path("run")) == "step-000003"
    assert Path("run/evaluation.json").exists()
    shutil.copytree("run", "again")
    assert in_processes("--resume again --processes 2 --trust --quiet")[0] == 0
    assert last_saved(Path("again")) == "step-000004"


def test_of_several_processes_all_end_with_its_error(rules):
    code, _, err = in_processes(f"{WORDS} --callback {rules}:fails --processes 2 --run run")
    assert code == 1
    assert f"callback {rules}:fails raised ValueError: at 1" in err
    assert last_saved(Path("run")) == "step-000001"
