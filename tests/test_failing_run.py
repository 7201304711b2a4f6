"""A run that breaks or is stopped says so in one line, and can go on as if nothing had been."""

import csv
import errno
import os
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from small import files, metarl, refused
from world import World

from metarl.system import files as written

FAILURE, INTERRUPTED = 1, 130
TRAIN = "train world:World --iterations 4 --tasks 2 --episodes 2 --hidden 8 --inner-steps 1"
OFTEN = "--save-every 3 --eval-every 2 --eval-steps 1 --quiet --run"
JUDGED = 40  # tasks of an evaluation in training


@pytest.fixture
def world(monkeypatch):
    """The class, healthy and with nothing played yet."""
    monkeypatch.setattr(World, "rollouts", 0)
    monkeypatch.setattr(World, "bonus", 0.0)
    monkeypatch.setattr(World, "trouble", lambda rollout, tasks: None)
    return World


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert metarl(TRAIN, OFTEN, folder) == (0, "", "")
    return record(folder)


def record(folder):
    """The newest checkpoint, and the metrics without wall-clock columns."""
    newest = max((folder / "checkpoints").glob("step-*.json"))
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]
    return newest.read_bytes(), newest.with_suffix(".safetensors").read_bytes(), rows


def saved_in(folder):
    """What a person is told of a run that broke."""
    return f" is saved; resume with: metarl train --resume {folder}"


def nan_from(world, when):
    """Rewards are NaN in the rollouts for which `when(number, tasks)` is true."""

    def trouble(rollout, tasks):
        world.bonus = float("nan") if when(rollout, tasks) else 0.0

    world.trouble = trouble


def ctrl_c(world, when):
    """Someone presses Ctrl-C in the first rollout for which `when(number, tasks)` is true."""

    def trouble(rollout, tasks):
        if when(rollout, tasks):
            world.trouble = lambda rollout, tasks: None
            raise KeyboardInterrupt

    world.trouble = trouble


@pytest.mark.parametrize(
    "when",
    [lambda n, tasks: n == 4, lambda n, tasks: tasks == JUDGED],
    ids=["in the second iteration", "in the evaluation after it"],
)
def test_a_nan_from_a_users_family_keeps_the_last_good_state(undisturbed, world, tmp_path, when):
    nan_from(world, when)
    parts = ("world: reward is ", "at step 0 of episode", "with goal_x=", "make the family finite")
    folder = tmp_path / "one"
    refused(
        TRAIN,
        OFTEN,
        folder,
        code=FAILURE,
        parts=(*parts, f"is saved; resume with: metarl train --resume {folder}"),
    )
    assert not list(folder.rglob("*.part"))
    nan_from(world, lambda n, tasks: False)
    assert metarl("train --trust --quiet --resume", folder) == (0, "", "")
    assert record(folder) == undisturbed


def test_a_failing_run_leaves_the_checkpoint_before_it_as_it_was(world, tmp_path):
    folder = tmp_path / "one"
    assert metarl(TRAIN, OFTEN, folder)[0] == 0
    before = files(folder / "checkpoints")
    nan_from(world, lambda n, tasks: True)
    more = "train --trust --quiet --iterations 9 --resume"
    refused(
        more,
        folder,
        code=FAILURE,
        parts=("reward is ", f"is saved; resume with: metarl train --resume {folder}"),
    )
    assert files(folder / "checkpoints") == before
    parts = ("world: reward is ", "make the family finite")
    refused("evaluate --trust", folder, "--tasks 2 --episodes 2", code=FAILURE, parts=parts)
    assert files(folder / "checkpoints") == before


def test_an_infinite_gradient_is_reported_and_several_stop_the_run(world, tmp_path):
    """Each reward is finite, and their sum is not."""
    world.bonus = 3e38
    folder = tmp_path / "one"
    words = (
        TRAIN,
        "--inner-steps 0 --iterations 9",
        OFTEN.replace("--quiet", "--eval-every 99"),
        folder,
    )
    parts = (
        "not finite 5 times in a row at iteration 5",
        "lower --inner-lr",
        "Iteration 4 of 9 is saved",
    )
    out = refused(*words, code=FAILURE, parts=parts)
    assert out.count("meta-gradient not finite, update skipped") == 4
    _, _, rows = record(folder)
    assert [float(row["train/skipped_updates"]) for row in rows] == [1, 2, 3, 4]


def test_a_family_is_not_blamed_for_what_an_infinite_inner_step_does_to_the_weights(
    world, tmp_path
):
    world.bonus = 3e38
    _, _, err = metarl(TRAIN, OFTEN, tmp_path / "one")
    assert "not finite" in err
    assert "make the family finite" not in err


@pytest.mark.parametrize("rollout", [1, 4, 6, 9, 14])
def test_ctrl_c_in_any_rollout_saves_and_says_how_to_go_on(undisturbed, world, tmp_path, rollout):
    """Two are of each iteration, and three of the evaluation after every other one."""
    ctrl_c(world, lambda n, tasks: n == rollout)
    folder = tmp_path / "one"
    advice = f"resume with: metarl train --resume {folder}"
    refused(TRAIN, OFTEN, folder, code=INTERRUPTED, parts=(advice,))
    assert metarl("train --trust --quiet --resume", folder) == (0, "", "")
    assert record(folder) == undisturbed


@pytest.mark.parametrize(
    ("what", "rollout", "saved"),
    [
        (OSError(5, "Input/output error"), 4, 1),
        (OSError(28, "No space left on device"), 6, 1),  # in an evaluation
        (OSError(5, "Input/output error"), 15, 4),  # in that at the end
        (SystemExit(0), 4, 1),
        (RecursionError("too deep"), 6, 1),
        (ValueError("no such\nthing"), 4, 1),
    ],
    ids=lambda x: repr(x).partition("(")[0],
)
def test_what_a_family_raises_is_not_taken_for_the_disks(
    undisturbed, world, tmp_path, what, rollout, saved
):
    """Nothing is lost, and one line says what was raised, and where."""

    def trouble(number, tasks):
        if number == rollout:
            raise what

    world.trouble = trouble
    folder = tmp_path / "one"
    parts = (f"world raised {type(what).__name__}", "test_failing_run.py, line ", "saved")
    refused(TRAIN, OFTEN, folder, code=FAILURE, parts=parts)
    assert max(folder.glob("checkpoints/step-*.json")).stem == f"step-{saved:06d}"
    world.trouble = lambda number, tasks: None
    assert metarl("train --trust --quiet --resume", folder) == (0, "", "")
    assert record(folder) == undisturbed


@pytest.mark.parametrize(
    ("allocate", "said"),
    [
        (lambda: torch.empty(10**15), "world: out of memory, in an allocation of 4e+03 TB"),
        (lambda: bytearray(2**62), "world: out of memory, MemoryError"),
    ],
)
def test_what_there_is_no_memory_for_is_told_with_its_size(world, tmp_path, allocate, said):
    world.trouble = lambda number, tasks: allocate()
    parts = (said, "fewer --tasks or --episodes", "smaller --task-chunk")
    refused(TRAIN, OFTEN, tmp_path / "one", code=FAILURE, parts=parts)


def test_what_a_family_raises_in_evaluate_is_told(world, tmp_path):
    folder = tmp_path / "one"
    assert metarl(TRAIN, OFTEN, folder)[0] == 0
    world.rollouts = 0

    def trouble(number, tasks):
        raise OSError(5, "Input/output error")

    world.trouble = trouble
    parts = ("world raised OSError: [Errno 5] Input/output error", "fix it there")
    refused("evaluate --trust", folder, "--tasks 2 --episodes 2", code=FAILURE, parts=parts)


def test_ctrl_c_in_the_evaluation_at_the_end_says_how_to_get_it(undisturbed, world, tmp_path):
    folder = tmp_path / "one"
    ctrl_c(world, lambda n, tasks: n == 15)
    refused(TRAIN, OFTEN, folder, code=INTERRUPTED, parts=(f"metarl train --resume {folder}",))
    assert metarl("train --trust --quiet --resume", folder) == (0, "", "")
    assert record(folder) == undisturbed
    assert (folder / "evaluation.json").exists()


def test_a_run_killed_before_its_first_checkpoint_starts_again(undisturbed, world, tmp_path):
    folder = tmp_path / "one"
    ctrl_c(world, lambda n, tasks: n == 1)
    metarl(TRAIN, OFTEN, folder)
    for path in folder.iterdir():
        if path.name != "config.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert metarl("train --trust --quiet --resume", folder) == (0, "", "")
    assert record(folder) == undisturbed


def test_the_advice_after_ctrl_c_leads_to_the_end_that_was_asked_for(world, tmp_path):
    folder = tmp_path / "my first run"
    assert metarl(TRAIN, OFTEN, folder)[0] == 0
    ctrl_c(world, lambda n, tasks: tasks != JUDGED)
    _, _, err = metarl("train --trust --quiet --iterations 6 --resume", folder)
    _, _, advice = err.partition("resume with: ")
    command, *words = shlex.split(advice)
    assert command == "metarl"
    assert metarl(*map(Path, words), "--quiet") == (0, "", "")  # a Path is not split
    assert [row["iteration"] for row in record(folder)[2]] == [str(k) for k in range(1, 7)]


def test_ctrl_c_in_evaluate_says_so(world, tmp_path):
    folder = tmp_path / "one"
    assert metarl(TRAIN, OFTEN, folder)[0] == 0
    ctrl_c(world, lambda n, tasks: True)
    words = ("evaluate --trust", folder, "--tasks 2 --episodes 2")
    refused(*words, code=INTERRUPTED, parts=("stopped",))


def test_a_full_disk_names_folder_and_remedy_and_keeps_the_last_good_state(
    undisturbed, world, tmp_path, monkeypatch
):
    def fsync(descriptor):
        if "step-000003.safetensors" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = tmp_path / "one"
    with monkeypatch.context() as patch:
        patch.setattr(written.os, "fsync", fsync)
        parts = ("No space left on device", str(folder), f"metarl train --resume {folder}")
        refused(TRAIN, OFTEN, folder, code=FAILURE, parts=parts)
    assert {p.stem for p in (folder / "checkpoints").iterdir()} == {"step-000000"}
    assert metarl("train --trust --quiet --resume", folder) == (0, "", "")
    assert record(folder) == undisturbed
