"""The folder `baselines/` isn't trusted: what lies in it is read as data, checked, or refused."""

import os
import re

import numpy as np
import pytest
import torch

from metarl.baselines.cache import (
    kept,
    numbers,
    read_record,
    read_tensors,
    write_record,
    write_tensors,
)
from metarl.baselines.ppo_model import (
    OPTIMIZER,
    PPOSettings,
    new_ppo,
    ppo_env,
    weights_of,
    with_weights,
)
from metarl.envs import UsageError, make_family, make_task

CFG = PPOSettings(gamma=0.5, gae_lambda=0.5, hidden=(4,), lr=1e-2)


def model():
    family = make_family("repeated-rps")
    return new_ppo(CFG, ppo_env(CFG, family, make_task(family), 4), 5)


def test_weights_and_optimizer_come_back_bit_for_bit(tmp_path):
    one = model().learn(20)
    write_tensors(tmp_path / "model-0.05-of-1", weights_of(one))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "model-0.05-of-1.json",
        "model-0.05-of-1.safetensors",
    ]
    tensors = read_tensors(tmp_path / "model-0.05-of-1")
    again = weights_of(with_weights(model(), tensors, optimizer=True))
    assert again.keys() == weights_of(one).keys()
    assert any(k.startswith(OPTIMIZER) for k in again)
    assert all((x == again[k]).all() for k, x in weights_of(one).items())


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t | {f"{OPTIMIZER}0/exp_avg": torch.zeros(2)},
        lambda t: t | {"action_net.bias": torch.zeros(7)},
        lambda t: t | {"action_net.bias": t["action_net.bias"].double()},
        lambda t: t | {f"{OPTIMIZER}99/exp_avg": torch.zeros(2)},
        lambda t: {k: x for k, x in t.items() if k != "action_net.bias"},
        lambda t: {k: x for k, x in t.items() if k != f"{OPTIMIZER}1/step"},
    ],
    ids=["moments", "shape", "dtype", "more", "fewer", "no step"],
)
def test_weights_of_another_network_are_refused(change):
    tensors = change(weights_of(model().learn(20)))
    with pytest.raises(UsageError, match="another network: delete the folder"):
        with_weights(model(), tensors, optimizer=True)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    write_tensors(tmp_path / "w", {"x": torch.tensor([1.0, float("nan")])})
    with pytest.raises(UsageError, match=r"damaged: delete it and w\.json"):
        read_tensors(tmp_path / "w")


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"sha256": 1, "record": {}}', "[" * 100_000])
def test_a_record_that_is_no_record_is_refused(tmp_path, content):
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=re.escape(f"{path} is damaged: delete it")):
        read_record(path)


def test_a_pipe_in_its_place_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "r.json")
    with pytest.raises(UsageError, match="damaged"):
        read_record(tmp_path / "r.json")


@pytest.mark.parametrize("returns", [None, "x", [[1.0]], [[1.0, 2.0], [3.0]], [[1, 2], [3, "nan"]]])
def test_a_record_of_other_content_is_refused_though_its_digest_is_right(tmp_path, returns):
    path = tmp_path / "r.json"
    write_record(path, {"returns": returns})
    with pytest.raises(UsageError, match="damaged"):
        kept(path, dict, lambda record: numbers(record["returns"], 2, 2))


def test_what_is_there_is_not_made_again(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"returns": [[1.0, 2.0]]}

    for _ in range(2):
        got = kept(tmp_path / "a" / "r.json", make, lambda r: numbers(r["returns"], 1, 2))
        np.testing.assert_array_equal(got, [[1.0, 2.0]])
    assert made == [1]
