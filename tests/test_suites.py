"""Families of the well-known suites: their ranges are those that the environments take."""

import warnings

import pytest

from envs import GymnasiumFamily, Range, make_family, sample_tasks, task_values
from envs.suites import SUITES


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
    train, test = (set(family.parameters["mode"].members(s)) for s in ("train", "test"))
    assert test
    assert not train & test
