"""A run folder is data: what it names is imported only if its user says so."""

import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from small import TINY, at, metarl, refused, sign, small, trained

from metarl.cli import train as training
from metarl.config.settings import RunConfig, TrainConfig
from metarl.config.trust import named_files
from metarl.envs import UsageError
from metarl.experiment.checkpoint import save_checkpoint
from metarl.experiment.run import load, open_run, start

USAGE = 2
COMMANDS = ("evaluate", "watch", "export", "compare", "train --resume")
MARK = 'open("{mark}", "w").close()\n'
FERRY = "ferry_of_mine:Ferry"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Folder of a run with a checkpoint, seen from the folder above."""
    monkeypatch.chdir(tmp_path)
    job = start(Path("run"), small("point-navigation"), RunConfig(eval_steps=1))
    save_checkpoint(Path("run/checkpoints"), "point-navigation", at(trained(), 2), job.digest)
    return Path("run")


@pytest.fixture
def mark(run):
    """What appears if a module in the run folder is imported, or called."""
    path = run.absolute() / "imported"
    (run / "thing.py").write_text(MARK.format(mark=path) + "def X(*given): return given\n")
    return path


def edit(run, **settings):
    """Settings as a stranger may write them, with right digests."""
    record = json.loads((run / "config.json").read_text())
    sign(run, {**record, "train": {**record["train"], **settings}})


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "named",
    [
        {"family": "run.thing:X"},
        {"family": "run.thing:X-v0"},
        {"family": "run.thing:a:b/X-v0"},
        {"family": "CartPole-v1", "vary": ["run.thing:X=1:2"]},
        {"family": "cartpole", "set": ["run.thing:X=1"]},
        {"family": "sys:exit"},
        {"family": "http.server:test"},
    ],
    ids=str,
)
def test_code_that_a_folder_names_is_told_and_not_run(run, mark, command, named):
    edit(run, **named)
    code = named["family"] if ":" in named["family"] else "run.thing:X"
    parts = (f"{run}/config.json: opening this run would import {code}", "give --trust")
    assert refused(command, run, code=USAGE, parts=parts) == ""
    assert not mark.exists()


def test_python_refuses_it_too_and_runs_it_when_told_to(run, mark):
    edit(run, family="run.thing:X")
    for opened in (load, open_run):
        with pytest.raises(UsageError, match=r"would import run.thing:X: give trust=True"):
            opened(run)
        assert not mark.exists()
    with pytest.raises(UsageError, match="lacks name, task_type"):
        load(run, trust=True)
    assert mark.exists()


def test_a_module_named_like_a_family_is_not_imported(run, mark):
    edit(run, family="run.thing")
    refused("evaluate", run, code=USAGE, parts=("unknown family 'run.thing'",))
    assert not mark.exists()


def test_settings_that_were_changed_say_what_they_would_import(run, mark):
    path = run / "config.json"
    path.write_text(path.read_text().replace('"point-navigation"', '"run.thing:X"'))
    parts = ("its SHA-256 differs", "code that would be imported: run.thing:X")
    refused("evaluate", run, code=USAGE, parts=parts)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("words", "opened"),
    [
        ({"set": ("xml_file=/tmp/mine.xml",)}, True),
        ({"set": ("xml_file=../mine.xml",)}, True),
        ({"set": ("model=mine.pkl",)}, True),
        ({"set": ("env_id=mine:Mine",)}, True),
        ({"vary": ("map=a,b/c",)}, True),
        ({"vary": ("map=a,b",), "extrapolate": ("map=c.zip",)}, True),
        ({"set": ("map=here",)}, True),  # a file that is in the working folder
        ({"set": ("max_episode_steps=9", "scale=-0.5", "on=true", "kind=rgb-array")}, False),
        ({"vary": ("a=1:2", "b=0.1:1:log", "c=4x4,8x8"), "hold_out": ("a=1.2:1.3",)}, False),
    ],
    ids=str,
)
def test_values_that_an_environment_might_open_need_trust_too(tmp_path, monkeypatch, words, opened):
    monkeypatch.chdir(tmp_path)
    Path("here").touch()
    assert bool(named_files(TrainConfig(family="CartPole-v1", **words))) == opened


def test_such_a_value_is_told_before_the_environment_is_made(run):
    edit(run, family="CartPole-v1", vary=["length=0.4:0.6"], set=["model=/tmp/mine.pkl"])
    parts = ("would give model=/tmp/mine.pkl to CartPole-v1", "give --trust")
    refused("evaluate", run, code=USAGE, parts=parts)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_cannot_say_that_it_is_trusted(run, tmp_path, command, begun):
    """Nor name a model or a pickle to start from."""
    bomb, mark = tmp_path / "bomb.pkl", tmp_path / "went off"
    bomb.write_bytes(pickle.dumps(Bomb(mark)))
    edit(run, trust=True, init_from=str(bomb), init_normalize=str(bomb))
    found = open_run(run)
    assert (found.train.trust, found.train.init_from, found.train.init_normalize) == (False, "", "")
    if not begun:
        for path in (run / "checkpoints").iterdir():
            path.unlink()
        part = "its first checkpoint" if command == "train --resume" else "no checkpoint in"
        refused(command, run, code=USAGE, parts=(part,))
    assert not mark.exists()


def test_a_record_does_not_say_that_it_was_trusted(tmp_path):
    cfg = dataclasses.replace(small("point-navigation"), trust=True)
    start(tmp_path / "run", cfg, RunConfig())
    assert "trust" not in json.loads((tmp_path / "run" / "config.json").read_text())["train"]


OWN = """
from dataclasses import dataclass
from typing import ClassVar

from metarl.envs.classic_control.point_navigation import PointNavigation


@dataclass(frozen=True)
class Ferry(PointNavigation):
    name: ClassVar[str] = "ferry"
"""


def test_a_family_of_ones_own_is_reopened_with_trust_or_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ferry_of_mine.py").write_text(OWN)
    code, shown, err = metarl(f"train {FERRY} {TINY} --track csv --run runs/mine")
    assert (code, err) == (0, "")
    told = [line.strip() for line in shown.splitlines() if line.startswith("  metarl")]
    assert len(told) == 4
    assert all("runs/mine --trust" in line for line in told)
    asked = (f"would import {FERRY}", "give --trust")
    small_one = "--tasks 2 --episodes 2 --steps 1"
    refused(f"evaluate runs/mine {small_one}", code=USAGE, parts=asked)
    refused("train --resume runs/mine --iterations 3", code=USAGE, parts=asked)
    code, shown, _ = metarl(f"evaluate runs/mine --trust {small_one}")
    assert code == 0
    assert "metarl watch runs/mine --trust --variant" in shown
    assert metarl(f"train {FERRY} --resume runs/mine --iterations 3 --quiet")[0] == 0
    assert metarl("train --resume runs/mine --iterations 4 --quiet --trust")[0] == 0


def test_processes_are_told_what_their_parent_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ferry_of_mine.py").write_text(OWN)
    told = []
    monkeypatch.setattr(training, "go_on_together", lambda folder, n, more: told.append(more) or 0)
    assert metarl(f"train {FERRY} {TINY} --processes 2 --run runs/mine")[0] == 0
    assert metarl(f"train point-navigation {TINY} --processes 2 --run runs/metarls")[0] == 0
    assert ["--trust" in words for words in told] == [True, False]


def test_a_command_that_names_no_code_looks_for_none_in_the_working_folder(run):
    code = (
        "import sys\nfrom metarl.cli.main import main\n"
        "main(['evaluate', '.', '--tasks', '2', '--episodes', '2', '--steps', '0'])\n"
        "print([p for p in sys.path if p in ('', '.')])"
    )
    python = [sys.executable, "-P", "-c", code]
    done = subprocess.run(python, cwd=run, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize("named", ["sys:exit", "quits_when_imported:X"])
def test_what_would_end_python_is_an_error(tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    Path("quits_when_imported.py").write_text("raise SystemExit(0)\n")
    refused(f"train {named} --run run", code=USAGE, parts=(f"'{named}'", "SystemExit"))
