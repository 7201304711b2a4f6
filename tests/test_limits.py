"""What no computer can do is refused in one line, which names it and what can be done."""

import contextlib
import dataclasses
import io
import json
import subprocess
import sys
import threading
import types

import pytest
import torch
from processes import ENV, METARL, SMALL
from raising import raising
from small import TINY, refused, small

from metarl.agents.rollouts.rollout import bytes_of_step
from metarl.cli.arguments import COMMANDS
from metarl.config.settings import TrainConfig
from metarl.config.settings_file import from_record
from metarl.envs import FAMILIES, Choice, Range, RunError, UsageError, make_family, sample_tasks
from metarl.envs.core.precision import fits_float32
from metarl.evaluation.evaluate import evaluate
from metarl.experiment import memory_check as room
from metarl.tracking.tensorboard import TensorBoardTracker
from metarl.training.meta_train import new_agent

OWN = {name: made for name, made in FAMILIES.items() if isinstance(made, type)}


@pytest.mark.parametrize("x", [1e308, -1e39, 1e-40, 5e-324, float("nan"), float("inf")])
def test_numbers_that_float32_lacks(x):
    assert not fits_float32(x)


@pytest.mark.parametrize("x", [0.0, -1.0, 3.4e38, 1.2e-38])
def test_numbers_that_float32_has(x):
    assert fits_float32(x)
    assert float(torch.tensor(x, dtype=torch.float32)) == pytest.approx(x, rel=1e-6)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_setting_takes_a_number_that_its_type_cannot_hold(command):
    kind = COMMANDS[command]
    needed = {f.name: "x" for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    for field in dataclasses.fields(kind):
        wrong = {int: (2**63, 2**70, 10**5000), float: (1e308, 1e-300, float("nan"), 10**400)}
        for value in wrong.get(type(field.default), ()):
            with pytest.raises(UsageError, match="--" + field.name.replace("_", "-")) as error:
                kind(**needed, **{field.name: value})
            assert len(str(error.value)) < 300


@pytest.mark.parametrize("name", ["seed", "iterations", "clip", "inner_max_norm", "hidden"])
def test_a_folder_cannot_hold_them_either(name):
    value = [2**70] if name == "hidden" else 10**400
    with pytest.raises(UsageError, match="--" + name.replace("_", "-")):
        from_record(TrainConfig, json.loads(json.dumps({name: value})))


@pytest.mark.parametrize("name", OWN)
def test_every_constant_of_a_family_has_limits(name):
    family = OWN[name]()
    for field in dataclasses.fields(family):
        value = getattr(family, field.name)
        if isinstance(value, bool):
            continue
        for wrong in _wrong(value):
            with pytest.raises(UsageError):
                dataclasses.replace(family, **{field.name: wrong})


def _wrong(value):
    if isinstance(value, int):
        return -5, 2**70
    if isinstance(value, float):
        return -1.0, 1e308, float("nan"), float("inf")
    if isinstance(value, Range):
        return (Range(-1e30, 1e30),)
    return Choice((0.5, 1.0)), Choice((0.0, 1e30)), Range(0.0, 1.0)


@pytest.mark.parametrize(
    "words", ["horizon=0", "horizon=-5", "horizon=1e308", "width=0", "width=-1"]
)
def test_a_constant_out_of_bounds_is_told(words, tmp_path):
    name = words.partition("=")[0]
    words = f"train cartpole {TINY} --run {tmp_path}/run --set {words}"
    refused(words, code=2, parts=(name, "give"))
    assert not (tmp_path / "run").exists()


def test_a_range_for_what_is_chosen_from_a_table_is_refused():
    family = make_family("breakout")
    with pytest.raises(UsageError, match=r"layout in .* must be an integer"):
        dataclasses.replace(family, layout=Range(0.0, 3.0))
    assert dataclasses.replace(family, layout=Range(0.0, 3.0, integer=True)).layout.high == 3
    with pytest.raises(UsageError, match="layout=99"):
        dataclasses.replace(family, layout=Choice((0.0, 99.0)))


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ("--tasks 100000 --episodes 100000", ("--tasks", "--episodes")),
        ("--tasks 50 --task-chunk 50 --hidden 16384 16384 16384", ("--hidden", "--task-chunk")),
    ],
)
def test_a_run_that_memory_cannot_hold_names_its_size_and_the_flags(words, flags, tmp_path):
    run = f"train forager --iterations 1 --run {tmp_path}/run"
    refused(run, words, code=2, parts=("needs at least", "B of memory", "are free", *flags))
    assert not (tmp_path / "run").exists()


def test_what_fits_is_not_refused(monkeypatch):
    cfg, family = small("forager"), make_family("forager")
    steps = cfg.tasks * cfg.episodes * family.horizon * (cfg.inner_steps + 1)
    monkeypatch.setattr(room, "free_memory", lambda: steps * bytes_of_step(family))
    room.check_room(cfg, family)
    monkeypatch.setattr(room, "free_memory", lambda: steps * bytes_of_step(family) - 1)
    with pytest.raises(UsageError, match="--tasks or --episodes"):
        room.check_room(cfg, family)


@pytest.mark.parametrize("name", ["forager", "cartpole", "pendulum"])
def test_the_bytes_of_a_step_are_those_of_a_rollout(name):
    family = make_family(name)
    agent = new_agent(small(name), family)
    data = agent.play(family, sample_tasks(family, 2), 3)
    found = sum(
        x.nbytes for x in (data.obs, data.act, data.logp, data.rew, data.mask, data.dist[0])
    )
    assert bytes_of_step(family) * 2 * 3 * family.horizon == found


def test_an_evaluation_that_memory_cannot_hold_is_refused_before_it_is_played():
    family = make_family("forager")
    agent = new_agent(small("forager"), family)
    with pytest.raises(RunError, match=r"40 tasks x 10000000 episodes .* give fewer --episodes"):
        evaluate(agent, family, episodes=10_000_000)


@pytest.mark.parametrize("error", [SystemExit(0), ValueError("bad\nnews")])
@pytest.mark.parametrize(
    ("place", "after"),
    [
        ("observation_space", 0),
        ("observation_space", 3),
        ("step_noise", 0),
        ("members", 0),
        ("parameters", 0),
        ("reset", 2),
        ("observe", 4),
        ("step", 30),
    ],
)
def test_a_family_that_raises_is_told(place, after, error, tmp_path, monkeypatch):
    module = types.ModuleType("raising_family")
    module.Mine = raising(place, error, after)
    monkeypatch.setitem(sys.modules, "raising_family", module)
    words = f"train raising_family:Mine {TINY} --quiet --track none --run {tmp_path}/run"
    code = 2 if (place, after) in (("observation_space", 0), ("step_noise", 0)) else 1
    refused(words, code=code, parts=(type(error).__name__,))


@pytest.mark.parametrize("kilobytes", [16])
def test_a_disk_that_is_full_under_tensorboard_is_told(kilobytes, tmp_path):
    words = f"{SMALL} --save-every 1000 --run {tmp_path}/run"
    script = f'ulimit -f {2 * kilobytes}; exec "$0" "$@"'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, *METARL, *words.split()],
        env=ENV,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert "File too large: free space there" in done.stderr


def test_errors_of_other_threads_are_still_shown(tmp_path):
    TensorBoardTracker(tmp_path, 0).close()

    def fail():
        raise OSError("mine")

    with contextlib.redirect_stderr(io.StringIO()) as err:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert "OSError: mine" in err.getvalue()
