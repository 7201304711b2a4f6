"""A checkpoint comes back bit by bit or not at all, and nothing destroys the last good one."""

import dataclasses
import errno
import os
import subprocess
import sys

import pytest
import torch
from small import at, files, start, trained
from torch.testing import assert_close

from metarl.envs import UsageError
from metarl.experiment import checkpoint
from metarl.experiment.checkpoint import load_checkpoint, save_checkpoint
from metarl.outer.train_state import named_weights
from metarl.training.meta_train import meta_train


def load(folder, **more):
    cfg, family, blank = start(**more)
    return load_checkpoint(
        folder, dataclasses.replace(cfg, family="point-navigation"), family, blank
    )


def bits(tensors):
    return {k: x.contiguous().view(torch.uint8) for k, x in tensors.items() if x.dim()}


def test_a_checkpoint_comes_back_bit_by_bit(tmp_path):
    counters = {"iteration": 9, "env_steps": 2**53 + 1, "skipped": 7, "skipped_in_a_row": 3}
    state = dataclasses.replace(trained(), **counters)
    save_checkpoint(tmp_path, "point-navigation", state)
    got = load(tmp_path)
    assert list(named_weights(got.agent)) == list(named_weights(state.agent))
    assert_close(named_weights(got.agent), named_weights(state.agent), rtol=0, atol=0)
    assert_close(got.opt, state.opt, rtol=0, atol=0)
    assert any(k.endswith("exp_avg_sq") for k in got.opt)
    for counter in ("iteration", "env_steps", "skipped", "skipped_in_a_row"):
        assert getattr(got, counter) == getattr(state, counter)


def test_every_finite_bit_pattern_survives(tmp_path):
    """Signed zeros and subnormals too; also of views. What isn't finite is refused."""
    gen = torch.Generator().manual_seed(0)

    def anything(x):
        word = torch.randint(-(2**31), 2**31, (*x.shape, 2), generator=gen, dtype=torch.int64)
        number = word.to(torch.int32).view(torch.float32)[..., 0]
        return torch.where(number.isfinite(), number, -0.0)

    agent = dataclasses.replace(
        trained().agent, params={k: anything(p) for k, p in trained().agent.params.items()}
    )
    state = dataclasses.replace(
        trained(),
        agent=agent,
        opt={
            k: anything(x) if k.endswith("exp_avg") else anything(x).abs()
            for k, x in trained().opt.items()
        },
    )
    save_checkpoint(tmp_path, "point-navigation", state)
    got = load(tmp_path)
    assert_close(bits(got.agent.params), bits(agent.params), rtol=0, atol=0)
    assert_close(bits(got.opt), bits(state.opt), rtol=0, atol=0)


def test_going_on_from_a_checkpoint_equals_going_on(tmp_path):
    cfg, family, _ = start(iterations=4)
    save_checkpoint(tmp_path, "point-navigation", trained())
    one, other = (list(meta_train(cfg, family, s))[-1] for s in (trained(), load(tmp_path)))
    assert_close(named_weights(one.agent), named_weights(other.agent), rtol=0, atol=0)
    assert_close(one.opt, other.opt, rtol=0, atol=0)
    assert one.metrics == other.metrics


def test_only_the_two_newest_are_kept_and_the_newest_is_loaded(tmp_path):
    for iteration in (9, 10, 99_999, 999_999, 1_000_000):
        save_checkpoint(tmp_path, "point-navigation", at(trained(), iteration))
        assert load(tmp_path).iteration == iteration
        stems = {p.stem for p in tmp_path.iterdir()}
        assert len(list(tmp_path.iterdir())) == 2 * len(stems) == (2 if iteration == 9 else 4)


def test_what_a_killed_save_leaves_is_ignored(tmp_path):
    save_checkpoint(tmp_path, "point-navigation", trained())
    (tmp_path / "step-000009.safetensors").write_bytes(b"half")
    (tmp_path / "step-000009.json.part").write_text('{"format"')
    (tmp_path / "step-000011.safetensors.part").write_bytes(b"half")
    assert load(tmp_path).iteration == 2
    save_checkpoint(tmp_path, "point-navigation", at(trained(), 9))
    assert load(tmp_path).iteration == 9


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_a_checkpoint_says_what_to_do(tmp_path, made):
    folder = tmp_path / "checkpoints"
    if made:
        folder.mkdir()
    with pytest.raises(UsageError, match=rf"no checkpoint in {folder}: .*metarl train"):
        load(folder)


def test_a_newer_format_asks_for_an_upgrade(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT + 1)
    save_checkpoint(tmp_path, "point-navigation", trained())
    monkeypatch.undo()
    with pytest.raises(UsageError, match="format 6, this metarl reads up to 5: upgrade metarl"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"name": "cartpole"}, r"layers.0.weight is \(8, 2\), .* need \(8, 4\)"),
        ({"hidden": (5,)}, r"layers.0.bias is \(8,\), .* need \(5,\)"),
        ({"hidden": (8, 4)}, r"layers.1.bias is \(2,\), .* need \(4,\)"),
        ({"hidden": ()}, r"layers.0.bias is \(8,\), .* need \(2,\)"),
        ({"step_size": "fixed"}, r"inner_lr/\S+ is \(8,\), .* need \(\)"),
    ],
)
def test_weights_of_another_family_or_network_name_both_shapes(tmp_path, other, what):
    save_checkpoint(tmp_path, "point-navigation", trained())
    with pytest.raises(UsageError, match=f"{what}: give the family and settings"):
        load(tmp_path, **other)


@pytest.mark.parametrize("nth", [1, 2])
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch, nth):
    """Whether the tensors or their JSON no longer fit."""
    save_checkpoint(tmp_path, "point-navigation", at(trained(), 4))
    before, calls = files(tmp_path), []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, "point-navigation", at(trained(), 5))
    after = files(tmp_path)
    assert after.items() >= before.items()
    assert after.keys() - before.keys() <= {"step-000005.safetensors"}
    assert load(tmp_path).iteration == 4
    monkeypatch.undo()
    save_checkpoint(tmp_path, "point-navigation", at(trained(), 5))
    assert load(tmp_path).iteration == 5


TOO_LARGE = """
import resource, sys
from pathlib import Path
from metarl.experiment.checkpoint import save_checkpoint
from small import at, start
state = start()[2]
save_checkpoint(Path(sys.argv[1]), "point-navigation", at(state, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
save_checkpoint(Path(sys.argv[1]), "point-navigation", at(state, 1))
"""


def test_a_file_that_may_not_grow_leaves_the_last_good_checkpoint(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TOO_LARGE, str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.path.dirname(__file__)},
        capture_output=True,
        text=True,
    )
    assert "File too large" in done.stderr
    assert files(tmp_path).keys() == {"step-000000.json", "step-000000.safetensors"}
    assert load(tmp_path).iteration == 0
