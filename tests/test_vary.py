"""What the words after --vary, --hold-out, --validation, --extrapolate and --set mean."""

import json
import re

import gymnasium
import pytest
from small import TINY, files, metarl, refused

from metarl.config.family_spec import build_family, is_gymnasium_id
from metarl.config.settings import RunConfig, TrainConfig
from metarl.envs import Choice, GymnasiumFamily, Range, UsageError, make_family, parameters

COUNTER = "gym_worlds:Counter-v0"
GAIN = "--vary gain=1:2"


def built(family, vary=(), hold_out=(), extrapolate=(), set=(), validation=()):
    words = {"vary": vary, "hold_out": hold_out, "extrapolate": extrapolate, "set": set}
    words["validation"] = validation
    made = build_family(
        TrainConfig(family=family, **{k: tuple(v) for k, v in words.items()}), RunConfig(workers=3)
    )
    return made, parameters(made)


@pytest.mark.parametrize(
    ("words", "want"),
    [
        ("-12:-4", Range(-12.0, -4.0)),
        ("0.1:1:log", Range(0.1, 1.0, log=True)),
        ("1:9:int", Range(1.0, 9.0, integer=True)),
        ("1:9:log:int", Range(1.0, 9.0, log=True, integer=True)),
        ("0,1,2.5", Choice((0.0, 1.0, 2.5))),
        ("4x4,8x8", Choice((0.0, 1.0), labels=("4x4", "8x8"))),
        ("true,false", Choice((0.0, 1.0), labels=(True, False))),
        ("[0,1],[1,0.5]", Choice((0.0, 1.0), labels=([0, 1], [1, 0.5]))),
    ],
)
def test_ranges_and_sets(words, want):
    family, known = built(COUNTER, [f"gain={words}"])
    assert known == {"gain": want}
    assert (family.workers, family.step_timeout) == (3, 60.0)


def test_what_training_does_not_see():
    _, known = built(
        COUNTER,
        ["gain=0:9", "at=1,2,3", "scale=a,b"],
        ["gain=4:5", "at=2,3", "scale=b"],
        ["gain=-1:9", "at=7", "scale=c"],
    )
    assert known == {
        "gain": Range(0.0, 9.0, extrapolation=(-1.0, 9.0), held_out=(4.0, 5.0)),
        "at": Choice((1.0, 2.0, 3.0), held_out=(2.0, 3.0), extrapolation=(7.0,)),
        "scale": Choice((0.0, 1.0), held_out=(1.0,), extrapolation=(2.0,), labels=("a", "b", "c")),
    }


def test_what_only_validation_sees():
    _, known = built(
        COUNTER,
        ["gain=0:9", "at=1,2,3", "scale=a,b,c"],
        ["gain=4:5", "scale=b"],
        ["scale=d"],
        validation=["gain=5:6", "at=3", "scale=c"],
    )
    assert known == {
        "gain": Range(0.0, 9.0, held_out=(4.0, 5.0), validation=(5.0, 6.0)),
        "at": Choice((1.0, 2.0, 3.0), validation=(3.0,)),
        "scale": Choice(
            (0.0, 1.0, 2.0),
            held_out=(1.0,),
            validation=(2.0,),
            extrapolation=(3.0,),
            labels=("a", "b", "c", "d"),
        ),
    }


def test_other_layouts_for_the_test_and_for_validation():
    """Those of the family are no obstacle: what is asked for counts as a whole."""
    _, known = built("maze", hold_out=["layout=60,61"], validation=["layout=70"])
    assert known["layout"].members("test") == (60.0, 61.0)
    assert known["layout"].members("validation") == (70.0,)
    assert len(known["layout"].members("train")) == 97


def test_the_switch_for_what_does_not_repeat_itself_reaches_the_family():
    words = TrainConfig(family=COUNTER, vary=("gain=1:2",))
    assert build_family(words, RunConfig()).exact_replay
    family = build_family(words, RunConfig(exact_replay=False))
    assert not family.exact_replay
    assert not family.changed(family.vary, {}).exact_replay
    with pytest.raises(UsageError, match="--no-exact-replay: forager is not a Gymnasium"):
        build_family(TrainConfig(), RunConfig(exact_replay=False))


def test_constants_of_an_environment():
    family, _ = built(COUNTER, ["gain=1:2"], set=["max_episode_steps=9", "scale=0.5", "folder=x"])
    assert family.env_config.fixed == {"max_episode_steps": 9, "scale": 0.5, "folder": "x"}


def test_words_for_a_keyword_that_is_a_word():
    """`none` is nothing, but where the environment has a word by default it is one."""
    family, _ = built("checked_worlds:Gives", ["gain=1:2"], set=["wrong=none", "after=none"])
    assert family.env_config.fixed == {"wrong": "none", "after": None}


def test_names_that_no_tuple_can_have():
    vary = ["gravity[2]=-12:-8", "body_mass[torso]*=0.5:2", "gym_worlds:set_bonus=0:5"]
    family, known = built(COUNTER, vary)
    assert list(known) == ["gravity_2", "body_mass_torso", "gym_worlds_set_bonus"]
    assert list(family.env_config.functions) == ["gym_worlds:set_bonus"]


def test_a_family_by_its_name_with_other_ranges_and_constants():
    family, known = built(
        "cartpole", ["length=0.4:0.5"], ["length=0.44:0.46", "gravity=9:10"], set=["horizon=50"]
    )
    assert known["length"] == Range(0.4, 0.5, "m", held_out=(0.44, 0.46))
    assert known["gravity"].held_out == (9.0, 10.0)
    assert known["masspole"] == parameters(make_family("cartpole"))["masspole"]
    assert family.horizon == 50


@pytest.mark.parametrize(
    "name", ["LunarLander-v3", "ALE/Pong-v5", "my.module:Mine-v0", "a/B.c-v12"]
)
def test_what_looks_like_a_gymnasium_id_is_one(name):

    assert is_gymnasium_id(name)
    assert not is_gymnasium_id("cartpole")
    assert not is_gymnasium_id("module:Class")


def test_an_environment_class_of_ones_own_needs_no_registration():
    family, _ = built("gym_worlds:Counter", ["gain=1:2"], set=["max_episode_steps=5"])
    try:
        assert family.horizon == 5
    finally:
        family.close()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (f"{COUNTER}", ("nothing varies", "--vary NAME=LOW:HIGH")),
        (f"{COUNTER} --vary gain", ("--vary gain", "give NAME=LOW:HIGH")),
        (f"{COUNTER} --vary gain=", ("--vary gain=", "give NAME=LOW:HIGH")),
        (f"{COUNTER} --vary gain=5", ("--vary gain=5", "two different values")),
        (f"{COUNTER} --vary gain=1,1", ("--vary gain=1,1", "two different values")),
        (f"{COUNTER} --vary gain=2:1", ("--vary gain=2:1", "finite low <= high")),
        (f"{COUNTER} --vary gain=a:b", ("--vary gain=a:b", "NAME=LOW:HIGH")),
        (f"{COUNTER} --vary gain=1:2:lin", ("gain=1:2:lin", ":log or :int")),
        (f"{COUNTER} --vary gain=0:2:log", ("gain=0:2:log", "bounds above 0")),
        (f"{COUNTER} --vary gain=1:2.5:int", ("gain=1:2.5:int", "whole bounds")),
        (f"{COUNTER} --vary no_module:f=1:2", ("no_module", "module:function")),
        (f"{COUNTER} {GAIN} --hold-out gain=1:2", ("--hold-out gain=1:2", "left for training")),
        (f"{COUNTER} {GAIN} --hold-out gain=3:4", ("--hold-out gain=3:4", "interval inside")),
        (f"{COUNTER} {GAIN} --hold-out gain=", ("--hold-out gain=", "NAME=LOW:HIGH")),
        (f"{COUNTER} {GAIN} --hold-out gain=1,2", ("gain=1,2", "give LOW:HIGH")),
        (f"{COUNTER} {GAIN} --hold-out scale=1:2", ("scale", "give one of gain")),
        (f"{COUNTER} {GAIN} --validation scale=1:2", ("--validation scale", "give one of gain")),
        (f"{COUNTER} {GAIN} --validation gain=3:4", ("--validation gain=3:4", "interval inside")),
        (
            f"{COUNTER} {GAIN} --hold-out gain=1.2:1.5 --validation gain=1.4:1.6",
            ("--hold-out gain=1.2:1.5 --validation gain=1.4:1.6", "don't overlap"),
        ),
        ("maze --hold-out layout=65", ("--hold-out layout=65", "validation both have 65")),
        (f"{COUNTER} {GAIN} --extrapolate gain=1.5:3", ("gain=1.5:3", "make it contain [1, 2]")),
        (f"{COUNTER} --vary at=1,2 --hold-out at=3", ("at=3", "some of {1, 2}")),
        (f"{COUNTER} --vary at=1,2 --hold-out at=x", ("at=x", "not a number")),
        (f"{COUNTER} --vary at=a,b --hold-out at=c", ("at=c", "some of {a, b}")),
        (f"{COUNTER} {GAIN} --set scale", ("--set scale", "NAME=VALUE")),
        (f"{COUNTER} {GAIN} --live scale", ("--live scale", "give one of gain")),
        (f"{COUNTER} {GAIN} --image channels-last", ("--image channels-last", "Box(1,)")),
        ("cartpole --live length", ("--live length", "cartpole is not a Gymnasium id")),
        ("cartpole --image vector", ("--image vector", "cartpole is not a Gymnasium id")),
        (f"{COUNTER} {GAIN} --set nothing=1", ("no parameter 'nothing'", "scale")),
        ("cartpole --vary mass=1:2", ("--vary mass", "masspole")),
        ("cartpole --set horizon=ten", ("--set horizon=ten", "give int, such as 200")),
        ("cartpole --set speed=1", ("'speed' can't be set", "horizon")),
        ("cartpole --set gravity=9", ("'gravity' can't be set", "horizon")),
        ("forager --hold-out keys=3", ("forager has a fixed set of tasks", "leave out")),
        ("CartPole-v9 --vary length=1:2", ("unknown environment 'CartPole-v9'", "CartPole")),
    ],
)
def test_nonsense_is_refused_in_one_line(tmp_path, words, parts):
    refused("train", words, "--run", tmp_path / "run", code=2, parts=parts)
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_its_own_variants_and_ends_as_if_never_stopped(tmp_path):
    words = f"train {COUNTER} {GAIN} --hold-out gain=1.5:1.7 --workers 1 --quiet {TINY}"
    assert metarl(words, "--iterations 2 --run", tmp_path / "whole")[0] == 0
    assert metarl(words, "--iterations 1 --run", tmp_path / "parts")[0] == 0
    code, _, err = metarl("train --quiet --trust --resume", tmp_path / "parts", "--iterations 2")
    assert (code, err) == (0, "")
    last = "checkpoints/step-000002.safetensors"
    assert files(tmp_path / "whole")[last] == files(tmp_path / "parts")[last]
    result = json.loads((tmp_path / "whole" / "evaluation.json").read_text())
    assert all(1.5 <= task["params"]["gain"] <= 1.7 for task in result["per_task"])


def test_another_variation_is_another_run(tmp_path):
    run = tmp_path / "run"
    assert metarl(f"train {COUNTER} {GAIN} --quiet {TINY} --run", run)[0] == 0
    refused("train --resume", run, "--vary at=1:2", code=2, parts=("was started with vary",))


def test_an_environment_that_raises_leaves_the_last_good_state(tmp_path):
    words = f"train {COUNTER} {GAIN} --set trouble=raise --set folder={tmp_path} --quiet {TINY}"
    run = tmp_path / "run"
    assert metarl(words, "--iterations 1 --run", run)[0] == 0
    (tmp_path / "go").touch()
    parts = (
        "Counter-v0: step 2 of episode",
        "gain=1.",
        "no such thing",
        "Iteration 1 of 5 is saved",
    )
    refused("train --quiet --trust --resume", run, "--iterations 5", code=1, parts=parts)
    assert (run / "checkpoints" / "step-000001.json").exists()
    (tmp_path / "go").unlink()
    assert metarl("train --quiet --trust --resume", run, "--iterations 2")[0] == 0


def test_success_of_an_environment_is_reported(tmp_path):
    code, out, _ = metarl(f"train {COUNTER} {GAIN} {TINY} --json --run", tmp_path / "run")
    assert code == 0
    assert 0 <= json.loads(out)["success"][0] <= 1


def test_gymnasiums_classes_are_not_mistaken_for_families():
    with pytest.raises(UsageError, match=re.escape("nothing varies")):
        built("gymnasium.envs.classic_control.cartpole:CartPoleEnv")
    assert issubclass(gymnasium.Env, object)
    assert isinstance(built(COUNTER, ["gain=1:2"])[0], GymnasiumFamily)


def test_a_step_that_hangs_ends_the_run_with_its_state_saved(tmp_path):
    words = f"train {COUNTER} {GAIN} --set trouble=hang --set folder={tmp_path} --quiet {TINY}"
    run = tmp_path / "run"
    assert metarl(words, "--step-timeout 1 --workers 1 --iterations 1 --run", run)[0] == 0
    (tmp_path / "go").touch()
    parts = ("took longer than 1 s", "step 2 of episode", "seed ", "Iteration 1 of 2 is saved")
    refused("train --quiet --trust --resume", run, "--iterations 2", code=1, parts=parts)


def test_episodes_that_diverge_are_counted_and_told(tmp_path):
    words = f"train {COUNTER} {GAIN} --set trouble=nan --set folder={tmp_path} {TINY} --workers 1"
    (tmp_path / "go").touch()
    code, out, err = metarl(words, "--iterations 1 --run", tmp_path / "run")
    assert (code, err) == (0, "")
    assert "iteration 1: 8 episodes ended because the simulator diverged" in out
    header, row = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["train/diverged"] == "8.0"
