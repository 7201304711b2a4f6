"""A damaged checkpoint is refused in one line, whatever the damage; none is ever unpickled."""

import os
import pickle
import random

import pytest
from small import at, start, trained

from metarl.envs import UsageError
from metarl.experiment import checkpoint
from metarl.experiment.checkpoint import load_checkpoint, save_checkpoint


def load(folder):
    return load_checkpoint(folder, *start())


def refused(folder, advice):
    """One line that names the file and says what to do."""
    with pytest.raises(UsageError, match=advice) as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert str(folder / "step-") in str(error.value)


def flipped(whole, places):
    """The content with each bit of each of these bytes turned, one at a time."""
    for place in places:
        for bit in range(8):
            yield whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]


def sampled(length, count=60):
    return sorted({0, length - 1, *random.Random(0).sample(range(length), count)})


def test_a_flipped_bit_of_the_tensors_is_noticed(tmp_path):
    path = save_checkpoint(tmp_path, "point-navigation", trained()).with_suffix(".safetensors")
    whole = path.read_bytes()
    for damaged in flipped(whole, sampled(len(whole))):
        path.write_bytes(damaged)
        refused(tmp_path, "damaged .* start a new run")
    path.write_bytes(whole)
    assert load(tmp_path).iteration == 2


def test_a_flipped_bit_of_the_json_is_noticed_wherever_it_is(tmp_path):
    path = save_checkpoint(tmp_path, "point-navigation", trained())
    whole = path.read_bytes()
    for damaged in flipped(whole, range(len(whole))):
        path.write_bytes(damaged)
        refused(tmp_path, "start a new run|upgrade metarl")
    path.write_bytes(whole)
    assert load(tmp_path).iteration == 2


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_file_cut_short_or_with_more_at_its_end_is_refused(tmp_path, suffix):
    path = save_checkpoint(tmp_path, "point-navigation", trained()).with_suffix(suffix)
    whole = path.read_bytes()
    for content in (*(whole[:n] for n in sampled(len(whole))), whole + b"}"):
        path.write_bytes(content)
        refused(tmp_path, "start a new run")


@pytest.mark.parametrize("content", ["[]", "null", '"step"', '{"format": "one", "sha256": ""}'])
def test_json_that_is_no_checkpoint_is_refused(tmp_path, content):
    save_checkpoint(tmp_path, "point-navigation", trained()).write_text(content)
    refused(tmp_path, "start a new run")


def test_json_without_its_tensors_is_refused(tmp_path):
    save_checkpoint(tmp_path, "point-navigation", trained()).with_suffix(".safetensors").unlink()
    refused(tmp_path, r"can't be read \(.*No such file.*start a new run")


def test_tensors_of_another_checkpoint_are_refused(tmp_path):
    save_checkpoint(tmp_path, "point-navigation", start()[2])
    first = (tmp_path / "step-000000.safetensors").read_bytes()
    newest = save_checkpoint(tmp_path, "point-navigation", trained())
    newest.with_suffix(".safetensors").write_bytes(first)
    refused(tmp_path, "safetensors is damaged")


def test_deleting_the_damaged_newest_falls_back_on_the_one_before(tmp_path):
    save_checkpoint(tmp_path, "point-navigation", at(trained(), 7))
    newest = save_checkpoint(tmp_path, "point-navigation", at(trained(), 8))
    newest.with_suffix(".safetensors").write_bytes(b"")
    refused(tmp_path, r"step-0*8.safetensors is damaged .* delete step-0*8.json to fall back")
    newest.unlink()
    assert load(tmp_path).iteration == 7
    save_checkpoint(tmp_path, "point-navigation", at(trained(), 8))
    assert load(tmp_path).iteration == 8


class Bomb:
    """Makes a folder where it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("signed", [False, True])
def test_a_pickle_is_never_opened(tmp_path, monkeypatch, signed):
    """Not even one whose digest is right."""
    gone_off = tmp_path / "gone off"
    bomb = pickle.dumps(Bomb(gone_off))
    if signed:
        monkeypatch.setattr(checkpoint, "save", lambda tensors: bomb)
    path = save_checkpoint(tmp_path, "point-navigation", at(trained(), 1)).with_suffix(
        ".safetensors"
    )
    path.write_bytes(bomb)
    try:
        refused(tmp_path, "start a new run")
    finally:
        assert not gone_off.exists()
    pickle.loads(bomb)
    assert gone_off.exists()
