"""Families of the well-known suites: their ranges are those that the environments take."""

import json
import warnings

import numpy as np
import pytest
from small import TINY, metarl

from metarl.envs import (
    SPLITS,
    GymnasiumFamily,
    Range,
    make_family,
    parameters,
    sample_tasks,
    task_values,
)
from metarl.envs.suites import SUITES


class TestLunarLander:
    @pytest.fixture
    def family(self):
        pytest.importorskip("Box2D")
        return make_family("lunar-lander")

    def test_it_is_made_as_its_task_says(self, family):
        bare = family.make_env(gravity=-7.5, wind_power=3.0, turbulence_power=0.5).unwrapped
        assert (bare.gravity, bare.wind_power, bare.turbulence_power) == (-7.5, 3.0, 0.5)

    @pytest.mark.parametrize("name", ["wind_power", "turbulence_power"])
    def test_there_is_wind_where_its_power_varies(self, family, name):
        """Without `enable_wind` it would count for nothing."""
        assert family.make_env().unwrapped.enable_wind
        alone = GymnasiumFamily("LunarLander-v3", {name: Range(0.0, 1.0)})
        assert alone.make_env().unwrapped.enable_wind

    @pytest.mark.parametrize("split", ["train", "extrapolate"])
    def test_gymnasium_takes_every_value(self, family, split):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            for values in task_values(sample_tasks(family, 20, split=split)):
                family.make_env(**values).close()
            for end in (0, 1):
                family.make_env(**{k: p.bounds[end] for k, p in family.parameters.items()}).close()


@pytest.mark.parametrize("name", [n for n in SUITES if n.startswith("atari-")])
def test_modes_and_difficulties_are_all_those_of_the_game(name):
    pytest.importorskip("cv2")
    ale_py = pytest.importorskip("ale_py")
    family = make_family(name)
    ale = ale_py.ALEInterface()
    ale.loadROM(ale_py.roms.get_rom_path(name.removeprefix("atari-").replace("-", "_")))
    assert list(family.parameters["mode"].values) == ale.getAvailableModes()
    assert list(family.parameters["difficulty"].values) == ale.getAvailableDifficulties()
    train, validation, test = (set(family.parameters["mode"].members(s)) for s in SPLITS[:3])
    assert test
    assert not train & test
    assert not validation & test
    assert (validation == train) == (name == "atari-pong"), "two modes: none is left to hold out"
    assert name == "atari-pong" or not validation & train


@pytest.mark.parametrize(
    ("package", "name", "more"),
    [
        ("Box2D", "lunar-lander", ""),
        ("ale_py", "atari-space-invaders", "--set max_episode_steps=40"),
        ("minigrid", "minigrid-go-to-door", ""),
        ("metaworld", "metaworld-ml1-reach", "--set max_episode_steps=20"),
        ("metaworld", "metaworld-ml10", "--set max_episode_steps=10"),
        ("mujoco", "half-cheetah-vel", "--set horizon=20"),
    ],
)
def test_each_suite_trains(tmp_path, package, name, more):
    """Two iterations for real; what is evaluated is what training never sees."""
    pytest.importorskip(package)
    words = f"train {name} {more} {TINY} --workers 1 --json --quiet --run"
    code, out, err = metarl(words, tmp_path / "run")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert (record["env_steps_trained"] > 0, np.shape(record["return_mean"])) == (True, (2,))
    family = make_family(name)
    for parameter, known in parameters(family).items():
        values = {task["params"][parameter] for task in record["per_task"]}
        if isinstance(known, Range) and known.held_out:
            assert known.held_out[0] <= min(values) <= max(values) <= known.held_out[1]
        elif known.held_out:
            assert values <= set(known.held_out)
    told = name.startswith(("minigrid", "metaworld"))
    assert (record["success"] is not None) == told
