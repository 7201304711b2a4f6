"""A damaged or hostile model of Stable-Baselines3 is refused in one line, and in little memory.

`METARL_FUZZ=all python -m pytest tests/test_damaged_model.py` tries a thousand damaged zips.
"""

import io
import json
import os
import pickle
import random
import struct
import time
import tracemalloc
import zipfile

import pytest
import torch
from small import refused, small
from stable_baselines3 import PPO
from zip_damage import damaged

from metarl.envs import UsageError, make_family, make_task
from metarl.sb3.archive import read_model
from metarl.sb3.interop import to_vec_env
from metarl.sb3.torch_archive import read_tensors
from metarl.system.files import MB
from metarl.training.initialization import first_state

ALL = os.environ.get("METARL_FUZZ") == "all"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The files in a model's zip."""
    path = tmp_path_factory.mktemp("models") / "nav.zip"
    family = make_family("point-navigation")
    env = to_vec_env(family, make_task(family), copies=2)
    PPO("MlpPolicy", env, n_steps=8, batch_size=16, policy_kwargs={"net_arch": [8]}).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path, parts, how=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def told(path):
    """What is said of a model that is refused, on one line of some length."""
    with pytest.raises(UsageError) as error:
        read_model(str(path))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    assert f"--init-from {path}" in str(error.value)
    return str(error.value)


def test_whole_models_are_read_compressed_or_not(parts, tmp_path):
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        model = read_model(str(packed(tmp_path / "whole.zip", parts, how)))
        assert model.sizes == (2, 8, 2)
        wanted = torch.load(io.BytesIO(parts["policy.pth"]), weights_only=True)
        for name, weight in model.weights.items():
            assert torch.equal(weight, wanted[name].double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_tensors_are_those_that_torch_saved(dtype):
    gen = torch.Generator().manual_seed(0)
    saved = {
        f"x{i}": torch.randn(n, generator=gen).to(dtype) for i, n in enumerate(((), (3,), (2, 3)))
    }
    saved["a view"] = saved["x2"][1:]
    file = io.BytesIO()
    torch.save(saved, file)
    found = read_tensors(file.getvalue())
    assert found.keys() == saved.keys()
    assert all(torch.equal(found[k], x) for k, x in saved.items())


BOX = {":type:": "<class 'gymnasium.spaces.box.Box'>"}


def data(parts, **changes):
    return {**parts, "data": json.dumps({**json.loads(parts["data"]), **changes})}


def weights(parts, change):
    found = torch.load(io.BytesIO(parts["policy.pth"]), weights_only=True)
    file = io.BytesIO()
    torch.save(change(found), file)
    return {**parts, "policy.pth": file.getvalue()}


def pickled(parts, change):
    """The weights' zip with another pickle, checksums right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(parts["policy.pth"])) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return {**parts, "policy.pth": out.getvalue()}


BIAS = "action_net.bias"
BAD = {
    "no data": lambda p: {k: v for k, v in p.items() if k != "data"},
    "data no JSON": lambda p: {**p, "data": b"{"},
    "data a list": lambda p: {**p, "data": b"[]"},
    "data deep": lambda p: {**p, "data": 200_000 * b"["},
    "data a long number": lambda p: {**p, "data": b'{"a":' + 5000 * b"1" + b"}"},
    "space a number": lambda p: data(p, action_space=3),
    "kind a number": lambda p: data(p, action_space={":type:": 3}),
    "kind a list": lambda p: data(p, observation_space={":type:": []}),
    "shape a text": lambda p: data(p, observation_space={**BOX, "_shape": "ab"}),
    "shape null": lambda p: data(p, observation_space={**BOX, "_shape": None}),
    "no shape": lambda p: data(p, observation_space=BOX),
    "bounds a list": lambda p: data(p, action_space={**BOX, "low": [], "high": []}),
    "bounds words": lambda p: data(p, action_space={**BOX, "low": "a b", "high": "c d"}),
    "bounds infinite": lambda p: data(
        p, action_space={**BOX, "low": "-inf -inf", "high": "inf inf"}
    ),
    "kwargs a list": lambda p: data(p, policy_kwargs=[]),
    "activation a number": lambda p: data(p, policy_kwargs={"activation_fn": 3}),
    "weights no zip": lambda p: {**p, "policy.pth": b"PK"},
    "weights a number": lambda p: weights(p, lambda w: {**w, BIAS: torch.tensor(0.0)}),
    "weights of integers": lambda p: weights(p, lambda w: {**w, BIAS: torch.zeros(2).long()}),
    "weights of another size": lambda p: weights(p, lambda w: {**w, BIAS: torch.zeros(3)}),
    "weights not a number": lambda p: weights(p, lambda w: {**w, BIAS: w[BIAS] * torch.nan}),
    "a weight alone": lambda p: weights(
        p, lambda w: {**w, "mlp_extractor.policy_net.4.weight": torch.zeros(8, 8)}
    ),
    "a layer left out": lambda p: weights(
        p, lambda w: {k.replace("policy_net.0", "policy_net.2"): x for k, x in w.items()}
    ),
    "a layer of a long number": lambda p: weights(
        p,
        lambda w: {k.replace("policy_net.0", "policy_net." + 5000 * "9"): x for k, x in w.items()},
    ),
    "a list of weights": lambda p: weights(p, list),
    "weights of words": lambda p: weights(p, lambda w: {**w, BIAS: "words"}),
    "a huge view of one number": lambda p: weights(
        p, lambda w: {**w, BIAS: torch.zeros(1).expand(10**9)}
    ),
    "a storage that says more than it has": lambda p: pickled(
        p, lambda text: text.replace(b"K\x10t", b"J\x00\x00\x00\x10t")
    ),
    "a memo of many places": lambda p: pickled(
        p, lambda text: text[:2] + b"}r\xff\xff\xff\x7f" + text[2:]
    ),
    "many bytes from a number": lambda p: pickled(
        p, lambda text: b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."
    ),
    "a call": lambda p: pickled(p, lambda text: pickle.dumps(print, 2)),
    "a call of protocol 4": lambda p: pickled(p, lambda text: pickle.dumps(print, 4)),
    "an empty pickle": lambda p: pickled(p, lambda text: b""),
}


@pytest.mark.parametrize("name", BAD)
def test_a_model_that_is_none_is_refused_in_one_line(parts, tmp_path, name):
    tracemalloc.start()
    told(packed(tmp_path / "bad.zip", BAD[name](parts)))
    assert tracemalloc.get_traced_memory()[1] < 50 * MB
    tracemalloc.stop()


def test_a_command_says_it_in_one_line(parts, tmp_path):
    path = packed(tmp_path / "bad.zip", BAD["data deep"](parts))
    words = f"train point-navigation --run {tmp_path}/run --init-from {path}"
    refused(words, code=2, parts=("not an SB3 model", "give a file written by save()"))


@pytest.mark.parametrize("name", ["data", "policy.pth"])
def test_what_unpacks_to_far_more_than_it_is_takes_no_memory(parts, tmp_path, name):
    path = packed(tmp_path / "bomb.zip", {**parts, name: bytes(300 * MB)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 3 * MB
    tracemalloc.start()
    assert "says it has" in told(path)
    assert tracemalloc.get_traced_memory()[1] < 20 * MB
    tracemalloc.stop()


def test_what_unpacks_to_more_than_it_says_takes_no_memory(parts, tmp_path):
    """Its size in the zip is a lie."""
    path = packed(tmp_path / "lie.zip", {**parts, "data": bytes(300 * MB)}, zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    for size in (1, 1000):
        path.write_bytes(content.replace(struct.pack("<I", 300 * MB), struct.pack("<I", size)))
        tracemalloc.start()
        told(path)
        assert tracemalloc.get_traced_memory()[1] < 20 * MB
        tracemalloc.stop()


def test_weights_compressed_within_take_no_memory(parts, tmp_path):
    out = io.BytesIO()
    old = zipfile.ZipFile(io.BytesIO(parts["policy.pth"]))
    with old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, bytes(300 * MB) if name.endswith("/0") else old.read(name))
    tracemalloc.start()
    told(packed(tmp_path / "inner.zip", {**parts, "policy.pth": out.getvalue()}))
    assert tracemalloc.get_traced_memory()[1] < 20 * MB
    tracemalloc.stop()


@pytest.mark.parametrize("field", ["action_space", "observation_space"])
def test_a_long_text_takes_no_longer_than_it_is(parts, tmp_path, field):
    long = {":type:": 4 * MB * "<'", "_shape": [2], "low": MB * "[", "high": MB * "1 "}
    path = packed(tmp_path / "long.zip", data(parts, **{field: long}))
    began = time.perf_counter()
    model_or_not(path)
    assert time.perf_counter() - began < 5


def test_a_zip_of_many_files_is_refused(tmp_path):
    path = packed(tmp_path / "many.zip", {f"{i:0200}": b"" for i in range(5000)})
    assert "too many files" in told(path)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused(tmp_path, make):
    make(tmp_path / "model.zip")
    assert "not a regular file" in told(tmp_path / "model.zip")


def model_or_not(path):
    """Whether an agent starts from it; if not, it is told in one line."""
    cfg = small("point-navigation", hidden=(8,), init_from=str(path))
    try:
        state = first_state(cfg, make_family("point-navigation"))
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return False
    return all(w.isfinite().all() for w in state.agent.params.values())


def test_damaged_zips_are_refused_or_whole(parts, tmp_path):
    rng, path, read = random.Random(0), tmp_path / "model.zip", 0
    count = 1000 if ALL else 60
    for _ in range(count):
        path.write_bytes(damaged(rng, parts))
        read += model_or_not(path)
    print(f"{count} damaged zips, {read} of them start an agent")


def test_a_model_whose_numbers_make_no_policy_is_refused(parts, tmp_path):
    family = make_family("point-navigation")
    space = {**json.loads(parts["data"])["action_space"], "low": "[0. 0.]", "high": "[0. 0.]"}
    path = packed(tmp_path / "flat.zip", data(parts, action_space=space))
    cfg = small("point-navigation", hidden=(8,), init_from=str(path))
    with pytest.raises(UsageError, match="not finite"):
        first_state(cfg, family)
