"""What a constructor computes from an attribute follows it, or the attribute is refused."""

import math

import gymnasium
import numpy as np
import pytest

from envs import UsageError
from envs.derived import derived

FACTOR = 3.0


class Plain(gymnasium.Env):
    def __init__(self, k=2.0):
        self.a = 1.0
        self.b = 5.0
        self.double = 2 * self.a
        local = self.double + FACTOR
        unit = 10.0
        self.far: float = math.sqrt(local) * unit
        self.other = self.b
        self.count = 0


class ByMethod(Plain):
    def __init__(self):
        super().__init__()
        self._set_up()
        self.area = self._area()

    def _set_up(self):
        self.half = self.a / 2

    def _area(self):
        return self.side**2

    @property
    def side(self):
        return self.a + self.half


class Argument(gymnasium.Env):
    def __init__(self, k=3):
        self.a = 1.0
        self.b = self.a * k


class Child(Argument):
    def __init__(self):
        super().__init__(4)
        self.c = 2 * self.a


class Conditional(gymnasium.Env):
    def __init__(self):
        self.a = 1.0
        if self.a > 0:
            self.b = 2.0


class Passed(Plain):
    def __init__(self):
        self.a = 1.0
        super().__init__(k=self.a)


def changed(cls, name, value):
    env = cls()
    redo = derived(cls, name)
    setattr(env, name, value)
    redo(env)
    return env


def test_what_depends_on_it_follows_and_nothing_else():
    env = changed(Plain, "a", 4.0)
    assert (env.a, env.double, env.far) == (4.0, 8.0, math.sqrt(11) * 10)
    assert (env.b, env.other, env.count) == (5.0, 5.0, 0)
    assert changed(Plain, "count", 7).count == 7


def test_through_methods_properties_and_base_classes():
    env = changed(ByMethod, "a", 4.0)
    assert (env.double, env.half, env.area) == (8.0, 2.0, 36.0)


@pytest.mark.parametrize(
    ("cls", "line"),
    [
        (Argument, "self.b = self.a * k"),
        (Child, "self.b = self.a * k"),
        (Conditional, "if self.a > 0:"),
        (Passed, "super().__init__(k=self.a)"),
    ],
)
def test_what_cannot_be_done_anew_is_refused(cls, line):
    with pytest.raises(UsageError, match="can't be done anew") as error:
        derived(cls, "a")
    assert repr(line) in str(error.value)


def test_a_class_without_source_is_refused():
    space = {"gymnasium": gymnasium}
    exec("class X(gymnasium.Env):\n    def __init__(self):\n        self.a = 1.0", space)
    with pytest.raises(UsageError, match="source of X can't be read"):
        derived(space["X"], "a")


@pytest.mark.parametrize(
    ("name", "value", "follow"),
    [
        ("masspole", 0.4, {"total_mass": 1.4, "polemass_length": 0.2}),
        ("masscart", 3.0, {"total_mass": 3.1}),
        ("length", 2.0, {"polemass_length": 0.2, "total_mass": 1.1}),
        ("gravity", 3.0, {"total_mass": 1.1}),
    ],
)
def test_gymnasiums_cartpole(name, value, follow):
    env = gymnasium.make("CartPole-v1").unwrapped
    setattr(env, name, value)
    derived(type(env), name)(env)
    assert {k: getattr(env, k) for k in follow} == pytest.approx(follow)


def test_gymnasiums_mountain_car():
    env = gymnasium.make("MountainCar-v0").unwrapped
    env.min_position = -2.0
    derived(type(env), "min_position")(env)
    np.testing.assert_allclose(env.low, [-2.0, -0.07])
    assert env.observation_space.low[0] == -2.0
