"""A damaged, foreign or hostile file of an agent is refused in one line."""

import hashlib
import json
import os
import pickle
import random
import resource
import sys
import time

import pytest
import torch
from safetensors.torch import load, save
from test_agent_file import Lamp, grown, make_family, same

import metarl
from metarl.agent_files.agent_file import AGENT_FORMAT, KEY
from metarl.config.settings_file import digest_of
from metarl.envs import UsageError

ADVICE = r"give a file that agent\.save wrote\.$"


def refused(path, match=ADVICE):
    """One line that names the file."""
    with pytest.raises(UsageError, match=match) as error:
        metarl.load_agent(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "agent.safetensors"
    grown(make_family("point-navigation")).save(path)
    return path


def contents(path):
    """The record without its digests, and the tensors."""
    blob = path.read_bytes()
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    record = json.loads(header["__metadata__"][KEY])
    return {k: v for k, v in record.items() if k not in ("sha256", "tensors_sha256")}, load(blob)


def forge(path, record, tensors):
    """Write them with digests that are right."""
    blob = save(tensors)
    data = blob[8 + int.from_bytes(blob[:8], "little") :]
    record = {**record, "tensors_sha256": hashlib.sha256(data).hexdigest()}
    text = json.dumps({**record, "sha256": digest_of(record)})
    path.write_bytes(save(tensors, {KEY: text}))


def test_a_file_with_right_digests_is_opened(path):
    """So that what is refused below is refused for what was changed."""
    agent = metarl.load_agent(path)
    forge(path, *contents(path))
    same(agent, metarl.load_agent(path))


def test_a_flipped_bit_is_noticed_wherever_it_is(path):
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(16), *random.Random(0).sample(range(header), 120)]
    for place in [*places, *random.Random(1).sample(range(header, len(whole)), 60)]:
        for bit in random.Random(place).sample(range(8), 3):
            changed = bytes([whole[place] ^ 1 << bit])
            path.write_bytes(whole[:place] + changed + whole[place + 1 :])
            refused(path, "give a file|upgrade metarl")


def test_a_file_cut_short_or_with_more_at_its_end_is_refused(path):
    whole = path.read_bytes()
    for n in (0, 4, 8, 9, 300, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:n])
        refused(path)
    path.write_bytes(whole + b"\0")
    refused(path)


def test_files_of_another_kind_are_refused(path, tmp_path):
    for content in (
        b"{}",
        b"\xff" * 100,
        pickle.dumps({"weights": 1}),
        save({"x": torch.zeros(2)}),
        save({"x": torch.zeros(2)}, {"format": "pt"}),
        save({"x": torch.zeros(2)}, {KEY: "[]"}),
        save({"x": torch.zeros(2)}, {KEY: "no json"}),
        save({"x": torch.zeros(2)}, {KEY: "[" * 100_000}),
        save({"x": torch.zeros(2)}, {KEY: '{"sha256": "", "format": "one"}'}),
    ):
        path.write_bytes(content)
        refused(path)
    torch.save({"x": torch.zeros(2)}, path)
    refused(path)
    refused(tmp_path, "is a folder: open a run with metarl.load, or")
    refused(tmp_path / "nothing", "no such file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a regular file")


def test_a_large_file_is_refused_before_it_is_read(path):
    os.truncate(path, 50 * 2**30)  # takes no room on the disk
    start = time.perf_counter()
    refused(path, r"53,687,091,200 bytes, .* at most can be read")
    assert time.perf_counter() - start < 1.0
    path.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    refused(path, "a header of 1,099,511,627,776 bytes")


def test_a_newer_format_asks_for_a_newer_metarl(path):
    record, tensors = contents(path)
    forge(path, {**record, "format": AGENT_FORMAT + 1}, tensors)
    refused(path, "this metarl reads up to 1: upgrade metarl")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("params/layers.0.weight", torch.zeros(8, 3)),
        ("params/layers.0.weight", torch.zeros(8, 2, dtype=torch.float64)),
        ("params/layers.0.weight", None),
        ("params/layers.0.weight", torch.full((8, 2), float("nan"))),
        ("inner_lr/layers.0.bias", torch.full((8,), float("inf"))),
        ("inner_lr/layers.0.bias", None),
        ("normalization/obs_mean", torch.zeros(2)),
        ("action_space/low", torch.full((2,), float("nan"))),
        ("action_space/low", torch.full((2,), 5.0)),
        ("action_space/high", torch.full((2,), 5.0)),  # not symmetric, so none that policies take
        ("action_space/high", torch.full((2,), float("inf"))),
        ("observation_space/low", torch.full((2,), float("nan"))),
    ],
)
def test_tensors_that_are_not_as_they_must_be_are_refused(path, name, value):
    record, tensors = contents(path)
    tensors.pop(name, None)
    forge(path, record, tensors if value is None else {**tensors, name: value})
    refused(path)


CHANGES = [
    ("kind", "other"),
    ("kind", "memory"),
    ("network", {"kind": "os:system", "hidden": [8], "context": 0, "rank": 0}),
    ("network", {"kind": "mlp", "hidden": [16_384] * 100, "context": 0, "rank": 0}),
    ("network", {"kind": "mlp", "hidden": [8] * 10_000, "context": 0, "rank": 0}),
    ("network", {"kind": "mlp", "hidden": [-8], "context": 0, "rank": 0}),
    ("network", {"kind": "mlp", "hidden": [8], "context": 10**9, "rank": 0}),
    ("network", None),
    ("observation_space", {"type": "Box", "shape": [2**60], "dtype": "float32"}),
    ("observation_space", {"type": "Box", "shape": [2**12, 2**12, 2], "dtype": "float32"}),
    ("observation_space", {"type": "Box", "shape": [2], "dtype": "object"}),
    ("observation_space", {"type": "MultiBinary", "n": 2**24}),
    ("observation_space", {"type": "Dict"}),
    ("action_space", {"type": "Discrete", "n": 2**24, "dtype": "int64"}),
    ("action_space", {"type": "Discrete", "n": True, "dtype": "int64"}),
    ("action_space", {"type": "MultiDiscrete", "n": [2**24] * 9, "dtype": "int64"}),
    ("normalization", ["__class__"]),
    ("normalization", ["obs_mean"]),
    ("inner_lr", {}),
    ("inner_lr", {"nothing": []}),
    ("tasks", 2**30),
    ("tasks", -1),
    ("steps", 1.5),
]
RULES = [
    *(("gamma", 2.0), ("gamma", float("nan")), ("gamma", "0.9"), ("iterations", 10**12)),
    *(("estimator", "os:system"), ("baseline", "learned"), ("baseline", "os:system")),
    *(("per_step", 1), ("more", 1), ("max_norm", float("inf"))),
]


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_records_of_no_agent_are_refused_at_once(path, name, value):
    record, tensors = contents(path)
    assert record[name] != value
    forge(path, {**record, name: value}, tensors)
    modules, start = set(sys.modules), time.perf_counter()
    refused(path)
    assert time.perf_counter() - start < 5.0
    assert set(sys.modules) <= modules | {"torch._meta_registrations"}


@pytest.mark.parametrize(("name", "value"), RULES)
def test_inner_rules_that_no_run_can_have_are_refused(path, name, value):
    record, tensors = contents(path)
    forge(path, {**record, "rule": {**record["rule"], name: value}}, tensors)
    refused(path)


def test_a_record_sets_no_attribute_but_statistics(path):
    record, tensors = contents(path)
    tensors["normalization/forward"] = torch.zeros(2)
    forge(path, {**record, "normalization": ["forward"]}, tensors)
    refused(path, "normalization of forward is unknown")


def test_sizes_that_a_record_claims_take_no_memory(path):
    """Before the tensors are known to have them: a table of its choices would take 1 GB."""
    record, tensors = contents(path)
    tensors = {k: x for k, x in tensors.items() if not k.startswith("action_space/")}
    space = {"type": "MultiDiscrete", "n": [2**24] * 60, "dtype": "int64"}
    forge(path, {**record, "action_space": space}, tensors)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KB


def test_records_that_lack_anything_are_refused(path):
    record, tensors = contents(path)
    for name in record:
        forge(path, {k: v for k, v in record.items() if k != name}, tensors)
        refused(path)


@pytest.mark.parametrize("value", [[2], [2, -1], [2, 3, 4], "ab", 7, [2**40, 1]])
def test_trials_that_are_none_are_refused(tmp_path, value):
    path = tmp_path / "agent"
    grown(Lamp(), "rl2").save(path)
    record, tensors = contents(path)
    forge(path, {**record, "trials": value}, tensors)
    refused(path)
