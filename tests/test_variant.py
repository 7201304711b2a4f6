"""A variant in words becomes the task that they name, or an error in one line."""

import pytest

import metarl
from metarl.config.task_spec import parse_variant
from metarl.envs import GymnasiumFamily, UsageError, make_family, task_values
from metarl.envs.core.parameters import Choice, Range


@pytest.fixture
def lake():
    return GymnasiumFamily(
        "FrozenLake-v1", {"map_name": Choice((0.0, 1.0), labels=("4x4", "8x8"), held_out=(1.0,))}
    )


def test_what_is_named_is_set_and_the_rest_is_as_usual():
    family = make_family("cartpole")
    (got,) = task_values(parse_variant(family, ("length=0.7",)))
    (defaults,) = task_values(metarl.make_task(family))
    assert got == pytest.approx({**defaults, "length": 0.7})  # tasks are float32
    assert got != defaults


def test_labels_are_values(lake):
    assert task_values(parse_variant(lake, ("map_name=8x8",))) == [{"map_name": 1.0}]


def test_a_name_may_be_as_it_was_given_to_vary():
    family = GymnasiumFamily("Pendulum-v1", {"gravity[2]": Range(-11.0, -8.0)})
    for name in ("gravity[2]", "gravity_2"):
        assert task_values(parse_variant(family, (f"{name}=-9",))) == [{"gravity_2": -9.0}]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("height=2",), ("no parameter 'height'", "length in [")),
        (("length=99",), ("length=99 is out of bounds", "give a value in [")),
        (("length=nan",), ("out of bounds",)),
        (("length=long",), ("--variant length=long: give a number in [",)),
        (("length",), ("--variant length: give NAME=VALUE, such as",)),
        (("length=0.5", "length=0.6"), ("length is given twice",)),
    ],
)
def test_errors_name_the_thing_the_value_and_what_is_allowed(words, parts):
    with pytest.raises(UsageError) as told:
        parse_variant(make_family("cartpole"), words)
    for part in parts:
        assert part in str(told.value)


def test_an_unknown_label_is_refused_with_those_there_are(lake):
    with pytest.raises(UsageError, match="give one of 4x4, 8x8"):
        parse_variant(lake, ("map_name=9x9",))
