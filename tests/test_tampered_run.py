"""Settings and checkpoints whose digests may be right, and which are wrong in any other way.

`METARL_FUZZ=all python -m pytest tests/test_tampered_run.py` tries every bit of `config.json` and
a thousand damaged checkpoints; without it there is a sample.
"""

import dataclasses
import hashlib
import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save
from small import at, metarl, refused, sign, small, trained

from metarl.config.settings import RunConfig
from metarl.config.settings_file import digest_of, read_settings
from metarl.envs import Range, UsageError
from metarl.envs.classic_control.point_navigation import PointNavigation
from metarl.experiment.checkpoint import save_checkpoint
from metarl.experiment.checkpoint_contents import expected
from metarl.experiment.run import load, open_run, start
from metarl.outer import OUTER

USAGE = 2
ALL = os.environ.get("METARL_FUZZ") == "all"
OLD = Path(__file__).parent / "format-4"


@pytest.fixture
def run(tmp_path):
    job = start(tmp_path / "run", small("point-navigation"), RunConfig(eval_steps=1))
    save_checkpoint(tmp_path / "run/checkpoints", "point-navigation", at(trained(), 2), job.digest)
    return tmp_path / "run"


def rewrite(run, change=lambda tensors: tensors, **record):
    """The checkpoint with other tensors or another record, and right digests."""
    path = next((run / "checkpoints").glob("*.json"))
    own = {**json.loads(path.read_text()), **record}
    blob = save(change(tensors_of(path.with_suffix(".safetensors").read_bytes())))
    path.with_suffix(".safetensors").write_bytes(blob)
    write(path, {**own, "tensors_sha256": digest_of_bytes(blob)})


def write(path, record):
    own = digest_of({k: v for k, v in record.items() if k != "sha256"})
    path.write_text(json.dumps({**record, "sha256": own}))


def digest_of_bytes(blob):
    return hashlib.sha256(blob).hexdigest()


def told(run):
    """What `load` says, on one line."""
    with pytest.raises(UsageError) as error:
        load(run)
    assert "\n" not in str(error.value)
    assert str(run) in str(error.value)
    return str(error.value)


def with_one(name, make):
    """All tensors, the one whose name ends so made into another."""
    return lambda tensors: {
        k: make(x).contiguous() if k.endswith(name) else x for k, x in tensors.items()
    }


SQUARES = "layers.0.weight/exp_avg_sq"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (with_one(SQUARES, lambda x: x[:1]), "exp_avg_sq is (1, 2), "),
        (with_one(SQUARES, lambda x: x.repeat(100, 1)), "need (8, 2)"),
        (with_one("layers.0.weight/exp_avg", lambda x: x.flatten()), "exp_avg is (16,)"),
        (with_one("layers.0.weight/step", lambda x: x.repeat(3)), "step is (3,)"),
        (with_one(SQUARES, lambda x: x.double()), "holds float64 in place of float32"),
        (with_one("layers.1.bias", lambda x: x.half()), "holds float16 in place of float32"),
        (with_one("layers.1.bias", lambda x: x.long()), "holds int64 in place of float32"),
        (with_one("params/log_std", lambda x: x * torch.nan), "log_std holds a number that is not"),
        (with_one("inner_lr/log_std", lambda x: x + torch.inf), "number that is not finite"),
        (with_one(SQUARES, lambda x: x - 1), "holds a number below 0"),
        (with_one("log_std/step", lambda x: x * torch.nan), "number that is not finite"),
        (lambda tensors: {**tensors, "more": torch.zeros(1)}, "more is (1,)"),
        (lambda tensors: {**tensors, "seen/obs/steps": torch.zeros(())}, "seen/obs/steps is ()"),
        (lambda tensors: {k: x for k, x in tensors.items() if SQUARES not in k}, "is missing"),
        (lambda tensors: {k: x for k, x in tensors.items() if "opt/" not in k}, "is missing"),
        (lambda tensors: {k: x for k, x in tensors.items() if "log_std" not in k}, "is missing"),
        (lambda tensors: {}, "is missing"),
    ],
)
def test_tensors_with_right_digests_are_checked_against_the_agent(run, change, part):
    rewrite(run, change)
    assert part in told(run)
    refused("train --iterations 4 --resume", run, code=USAGE, parts=(part,))


def test_moments_of_observations_are_checked_too(tmp_path):
    cfg = small("point-navigation", normalize_obs=True, iterations=1)
    folder = tmp_path / "run"
    metarl(
        "train point-navigation --normalize-obs --iterations 1 --tasks 2 --episodes 2 --hidden 8 ",
        "--eval-steps 0 --track none --quiet --run", folder,
    )  # fmt: skip
    assert cfg.normalize_obs
    assert open_run(folder).state.running_stats.obs is not None
    whole = {p: p.read_bytes() for p in (folder / "checkpoints").iterdir()}
    for name, make, part in (
        ("seen/obs/var", lambda x: -1 - x, "holds a number below 0"),
        ("seen/obs/mean", lambda x: x[:1], "seen/obs/mean is (1,)"),
        ("seen/obs/mean", lambda x: x.float(), "holds float32 in place of float64"),
    ):
        for path, content in whole.items():
            path.write_bytes(content)
        for old in (folder / "checkpoints").glob("step-000000.*"):
            old.unlink()
        rewrite(folder, with_one(name, make))
        assert part in told(folder)


@pytest.mark.parametrize(
    "record",
    [
        {"iteration": -1},
        {"iteration": 2.0},
        {"iteration": "2"},
        {"iteration": True},
        {"env_steps": 2**70},
        {"skipped": 9},
        {"skipped_in_a_row": None},
        {"family": 3},
        {"config_sha256": None},
        {"tensors_sha256": 7},
        {"format": None},
        {"format": "5"},
    ],
    ids=str,
)
def test_a_record_with_a_right_digest_is_checked(run, record):
    path = next((run / "checkpoints").glob("*.json"))
    write(path, {**json.loads(path.read_text()), **record})
    told(run)


@pytest.mark.parametrize("name", ["format", "family", "iteration", "skipped", "tensors_sha256"])
def test_a_record_that_lacks_something_is_refused(run, name):
    path = next((run / "checkpoints").glob("*.json"))
    record = json.loads(path.read_text())
    del record[name]
    write(path, record)
    told(run)


@pytest.mark.parametrize(
    "content", [90_000 * b"[", 90_000 * b'{"a":', b'{"a":' + 5000 * b"1" + b"}"]
)
@pytest.mark.parametrize("file", ["config.json", "checkpoints/step-000002.json"])
def test_json_that_no_one_writes_is_refused(run, file, content):
    (run / file).write_bytes(content)
    told(run)
    refused("evaluate", run, code=USAGE, parts=(file,))


def test_a_checkpoint_of_other_settings_is_refused(run, tmp_path):
    """Of the same family and network, so that it would load."""
    start(tmp_path / "other", small("point-navigation", seed=1), RunConfig(eval_steps=1))
    shutil.copytree(run / "checkpoints", tmp_path / "other" / "checkpoints")
    assert "belongs to a run with another config.json" in told(tmp_path / "other")


def opened(read, run):
    """What is read; None where it is refused, which must be told in one line."""
    try:
        return read(run)
    except UsageError as error:
        told_on_one_line = "\n" not in str(error)
    assert told_on_one_line
    return None


def flips(content):
    """The content with one bit turned: all of them, or a sample."""
    places = [(i, b) for i in range(len(content)) for b in range(8)]
    for i, b in places if ALL else random.Random(0).sample(places, 300):
        yield content[:i] + bytes([content[i] ^ 1 << b]) + content[i + 1 :]


def test_a_flipped_bit_of_the_settings_never_gives_others(run):
    path = run / "config.json"
    content, whole = path.read_bytes(), read_settings(run)
    loaded = 0
    for damaged in flips(content):
        path.write_bytes(damaged)
        found = opened(read_settings, run)
        loaded += found is not None
        assert found in (None, whole)
    print(f"{8 * len(content) if ALL else 300} flips, {loaded} without an effect")
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_refused_or_as_it_was(run):
    """Bytes changed, taken out or doubled in either file; often with right digests after it."""
    rng = random.Random(1)
    paths = sorted((run / "checkpoints").iterdir())
    whole = {p: p.read_bytes() for p in paths}
    record = json.loads(whole[paths[0]])
    for _ in range(1000 if ALL else 60):
        for p, content in whole.items():
            p.write_bytes(content)
        path = rng.choice(paths)
        damaged = damage(rng, whole[path])
        path.write_bytes(damaged)
        if path.suffix == ".safetensors" and rng.random() < 0.5:
            write(paths[0], {**record, "tensors_sha256": digest_of_bytes(damaged)})
        if agent := opened(load, run):
            assert all(w.isfinite().all() for w in agent.params.values())


def damage(rng, content):
    """The content with some bytes changed, taken out, doubled or cut off."""
    out = bytearray(content)
    a, b = sorted(rng.sample(range(len(out)), 2))
    kind = rng.randrange(4)
    if kind == 0:
        for _ in range(rng.randint(1, 8)):
            out[rng.randrange(len(out))] = rng.randrange(256)
    elif kind == 1:
        del out[a:b]
    elif kind == 2:
        out[a:a] = out[a:b]
    else:
        del out[a:]
    return bytes(out)


def test_a_run_of_format_4_still_opens_and_goes_on(tmp_path):
    """As metarl wrote it before there were digests of settings and records of families."""
    run = tmp_path / "old"
    shutil.copytree(OLD, run)
    found = open_run(run)
    assert (found.state.iteration, found.train.family, found.record) == (2, "point-navigation", {})
    code, shown, err = metarl("evaluate --tasks 2 --episodes 2 --steps 1", run)
    assert (code, err) == (0, "")
    assert "point-navigation: 2 tasks" in shown
    code, _, err = metarl("train --iterations 3 --quiet --resume", run)
    assert (code, err) == (0, "")
    assert open_run(run).state.iteration == 3
    newest = json.loads((run / "checkpoints" / "step-000003.json").read_text())
    assert newest["config_sha256"] == read_settings(run).digest


def test_a_run_with_a_recorded_family_of_version_0_1_still_opens_and_goes_on(tmp_path):
    """As metarl wrote it while `Range.extrapolation` was `beyond` and modules lay in one folder."""
    run = tmp_path / "old"
    shutil.copytree(OLD.with_name("format-5"), run)
    found = open_run(run)
    goal = Range(-0.1, 0.1, "m", extrapolation=(-1.0, 1.0))
    assert (found.state.iteration, found.family) == (2, PointNavigation(goal_x=goal, horizon=7))
    assert found.state.running_stats.obs.steps > 0
    code, _, err = metarl("train --iterations 3 --no-lr-decay --quiet --resume", run)
    assert (code, err) == (0, "")
    assert open_run(run).state.iteration == 3


@pytest.mark.parametrize("known", [1, 2, 3])
def test_runs_of_older_formats_still_open(tmp_path, known):
    run = tmp_path / "old"
    shutil.copytree(OLD, run)
    record = json.loads((run / "config.json").read_text())
    del record["train"]["init_from"], record["train"]["trust"], record["train"]["normalize_obs"]
    record["train"]["first_order"] = record["train"].pop("second_order_steps") == 0
    (run / "config.json").write_text(json.dumps({**record, "format": known}))
    assert open_run(run).train.second_order_steps == 20


@pytest.mark.parametrize("form", [0, -1, 2.5, True, None, "4", [4]])
def test_a_format_that_there_never_was_is_refused(run, form):
    record = json.loads((run / "config.json").read_text())
    sign(run, {**record, "format": form})
    told(run)


def test_settings_that_were_changed_are_refused(run):
    path = run / "config.json"
    path.write_text(path.read_text().replace('"gamma": 0.99', '"gamma": 0.98'))
    parts = (f"{path}: damaged, or changed after the run was started (its SHA-256 differs)",)
    refused("evaluate", run, code=USAGE, parts=parts)
    unsigned = json.loads(path.read_text())
    del unsigned["sha256"]
    path.write_text(json.dumps(unsigned))
    refused("evaluate", run, code=USAGE, parts=parts)


def test_a_custom_outer_rule_keeps_its_tensors(run, monkeypatch):
    """Of them nothing is known but that they are finite."""
    monkeypatch.setitem(OUTER, "mine", None)
    job = open_run(run)
    cfg = dataclasses.replace(job.train, outer="mine")
    names = ["opt/velocity", "opt/params/log_std/step"]
    want = expected(cfg, job.state.agent, job.family, learned=True, found=names)
    assert want["opt/velocity"] is None
    assert want["opt/params/log_std/exp_avg"].shape == (2,)
