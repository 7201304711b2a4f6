"""A run folder that is not what it should be is refused in one line, and left as it is."""

import dataclasses
import errno
import json
import os
import shutil

import pytest
from small import TINY, at, files, metarl, refused, sign, small, trained

from metarl.config.settings import RunConfig
from metarl.experiment.checkpoint import save_checkpoint
from metarl.experiment.run import start
from metarl.tracking.trackers import CsvTracker

USAGE = 2


@pytest.fixture
def run(tmp_path):
    """Folder of a run with a checkpoint."""
    folder = tmp_path / "one"
    job = start(folder, small("point-navigation"), RunConfig(eval_steps=1))
    save_checkpoint(folder / "checkpoints", "point-navigation", at(trained(), 2), job.digest)
    return folder


def test_a_run_folder_that_exists_is_not_touched(run):
    before = files(run)
    parts = (f"{run} exists already", f"metarl train --resume {run}", "another --run")
    assert refused("train forager", TINY, "--run", run, code=USAGE, parts=parts) == ""
    assert files(run) == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    folder = tmp_path / "file" / "run"
    parts = (f"{folder} can't be written (Not a directory)", "give a writable folder with --run")
    assert refused("train forager", TINY, "--run", folder, code=USAGE, parts=parts) == ""
    assert files(tmp_path) == {"file": b"not a folder"}


def test_a_disk_that_is_full_at_once_is_named(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    folder = tmp_path / "new"
    parts = (f"{folder} can't be written (No space left on device)", "--run")
    refused("train forager", TINY, "--run", folder, code=USAGE, parts=parts)
    assert not files(tmp_path)


def damage(run, **changes):
    record = json.loads((run / "config.json").read_text())
    for part, edits in changes.items():
        record[part] = {**record[part], **edits} if isinstance(edits, dict) else edits
    sign(run, record)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 1}', "\xff\x00"])
@pytest.mark.parametrize("words", ["evaluate", "train --resume"])
def test_settings_that_cannot_be_read_are_refused(run, words, content):
    (run / "config.json").write_text(content, encoding="latin-1")
    parts = (f"{run / 'config.json'} is damaged", "restore it, or start a new run")
    assert refused(words, run, code=USAGE, parts=parts) == ""


@pytest.mark.parametrize(
    "edit",
    [
        *({"iterations": None}, {"tasks": 2.5}, {"tasks": 0}, {"hidden": [1.5]}, {"family": 3}),
        *({"gamma": "high"}, {"multi_step": "no"}, {"algo": "sac"}, {"unknown": 1}),
    ],
    ids=str,
)
@pytest.mark.parametrize("words", ["evaluate", "train --resume"])
def test_settings_that_make_no_sense_are_refused(run, words, edit):
    damage(run, train=edit)
    names = [name.replace("multi_step", "multi-step") for name in edit]
    assert refused(words, run, code=USAGE, parts=(str(run / "config.json"), *names)) == ""


@pytest.mark.parametrize("words", ["evaluate", "train --resume"])
def test_a_run_of_a_newer_metarl_asks_for_an_upgrade(run, words):
    damage(run, format=9, versions={"metarl": "7.0"})
    parts = (str(run / "config.json"), "metarl 7.0", "format 9", "reads up to 5", "upgrade metarl")
    assert refused(words, run, code=USAGE, parts=parts) == ""


@pytest.mark.parametrize("words", ["evaluate", "train --resume"])
def test_a_damaged_checkpoint_is_not_loaded(run, words):
    (run / "checkpoints" / "step-000002.safetensors").write_bytes(b"cut short")
    parts = ("step-000002.safetensors is damaged", "start a new run")
    assert refused(words, run, code=USAGE, parts=parts) == ""


def test_evaluation_needs_a_checkpoint(run):
    shutil.rmtree(run / "checkpoints")
    parts = (f"no checkpoint in {run / 'checkpoints'}", "metarl train")
    assert refused("evaluate", run, code=USAGE, parts=parts) == ""


def test_evaluation_says_that_training_was_not_ended(run):
    code, out, _ = metarl("evaluate --tasks 2 --episodes 2 --steps 1", run)
    assert code == 0
    assert f"{run} has 2 of its 3 iterations; resume with: metarl train --resume {run}" in out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("train cartpole", ("family point-navigation, not cartpole", "without --resume")),
        ("train --algo maml", ("algo promp, not maml", "without --resume")),
        ("train --tasks 4", ("tasks 3, not 4", "without --resume")),
        ("train --seed 1", ("seed 0, not 1", "without --resume")),
        ("train --hidden 9", ("hidden (8,), not (9,)", "without --resume")),
        ("train --iterations 0", ("--iterations 0", ">= 1")),
        ("train --run other", ("--run other", "leave it out", "--resume")),
    ],
)
def test_resuming_with_other_settings_is_refused(run, words, parts):
    before = files(run)
    assert refused(words, "--resume", run, code=USAGE, parts=parts) == ""
    assert files(run) == before


def test_garbage_at_the_end_of_the_metrics_is_cut_off(tmp_path):
    """What a power cut may leave of the last line."""
    path, header = tmp_path / "metrics.csv", ("iteration", "env_steps", "train/kl")
    whole = "iteration,env_steps,train/kl\n1,100,0.5\n"
    path.write_bytes(whole.encode() + b"2,20\x00\x00\xff\xfe\n")
    CsvTracker(path, header, 1).close()
    assert path.read_text() == whole


def test_weights_of_another_network_name_both_shapes(run):
    damage(run, train={"hidden": [9]})
    shapes = ("layers.0.bias is (8,)", "need (9,)", "settings that the run was started with")
    assert refused("evaluate", run, code=USAGE, parts=shapes) == ""
    damage(run, train=dataclasses.asdict(small("cartpole")), family={"fields": {}})
    families = ("belongs to family 'point-navigation', not 'cartpole'", "put back")
    assert refused("evaluate", run, code=USAGE, parts=families) == ""
