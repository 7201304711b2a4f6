"""Names, parameters and what a person is told who gets one wrong."""

import pytest
import torch
from reference import TENSOR, draw, splits
from torch.testing import assert_close

from metarl.envs import (
    FAMILIES,
    Choice,
    Range,
    UsageError,
    folded,
    gymnasium_id,
    make_family,
    make_task,
    parameters,
    simulate,
)
from metarl.envs.bandits.tabular_mdp import TabularMDP
from metarl.envs.classic_control.point_navigation import PointNavigation


@pytest.mark.parametrize("name", TENSOR)
def test_every_family_is_found_by_its_name(name):
    assert make_family(name) == FAMILIES[name]()
    assert make_family(name).name == name


def test_a_family_of_ones_own_is_found_by_module_and_class():
    assert make_family("metarl.envs.classic_control.cartpole:CartPole") == make_family("cartpole")


def test_gymnasium_id_names_the_class():
    assert gymnasium_id(make_family("point-navigation")) == "metarl/PointNavigation-v0"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("cartpol", ("'cartpol'", "give cartpole or another", "`metarl families`")),
        ("labyrinth", ("'labyrinth'", "metarl families", "module:Class")),
        (
            "no_module:Labyrinth",
            ("'no_module:Labyrinth'", "run where the module can be imported"),
        ),
        (
            "metarl.envs:Labyrinth",
            ("'metarl.envs:Labyrinth'", "has no attribute 'Labyrinth'", "check the class name"),
        ),
        (":Labyrinth", ("':Labyrinth'", "module:Class")),
        (".labyrinth:Labyrinth", ("'.labyrinth:Labyrinth'", "module:Class")),
    ],
)
def test_unknown_family_says_what_to_give(name, parts):
    with pytest.raises(UsageError) as error:
        make_family(name)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("family", "values", "parts"),
    [
        ("cartpole", {"mass": 1.0}, ("'mass'", "give one of", "masspole in [0.02, 0.5] kg")),
        ("cartpole", {"length": 1.3}, ("cartpole", "length=1.3", "give a value in [0.2, 1.2] m")),
        ("cartpole", {"inverted": 0.5}, ("inverted=0.5", "give a value in {0, 1}")),
        ("cartpole", {"gravity": float("nan")}, ("gravity=nan", "give a value in [4, 20] m/s^2")),
        ("forager", {"berry": 2.0}, ("forager", "berry=2", "give a value in {-1, 0, 1}")),
        ("point-navigation", {"goal_x": -0.81}, ("goal_x=-0.81", "[-0.8, 0.8] m")),
    ],
)
def test_wrong_parameter_says_what_to_give(family, values, parts):
    with pytest.raises(UsageError) as error:
        make_task(make_family(family), **values)
    for part in parts:
        assert part in str(error.value)


def test_many_parameters_alike_are_told_as_one():
    names = list(parameters(TabularMDP(states=2, actions=2)))
    assert list(folded(parameters(TabularMDP(states=2, actions=2)))) == names, "twelve in two kinds"
    shown = folded(parameters(TabularMDP()))
    assert list(shown) == ["reward_0_0 ... reward_9_4", "move_0_0_0 ... move_9_4_9"]
    with pytest.raises(
        UsageError, match=r"'x': give one of reward_0_0 \.{3} reward_9_4 in \[0, 1\]"
    ):
        make_task(TabularMDP(), x=1.0)


def test_make_task_takes_the_usual_value_of_what_is_not_given():
    task = make_task(make_family("cartpole"), length=1.2, inverted=1)
    want = (9.8, 1.0, 0.1, 1.2, 10.0, 1.0, 0.0)  # Gymnasium's own, the target in the middle
    assert_close(task, type(task)(*(torch.tensor([[x]]) for x in want)))


@pytest.mark.parametrize("family", [cls() for cls in TENSOR.values()], ids=lambda f: f.name)
@pytest.mark.parametrize("split", ["train", "extrapolate"])
def test_make_task_takes_back_every_task_that_can_be_drawn(family, split):
    """Though tasks are single precision, and their bounds are not."""
    if split not in splits(family):
        pytest.skip("nothing lies beyond its ranges")
    task = draw(family, 20, split)
    for n in range(20):
        again = make_task(family, **{k: x[n].item() for k, x in task._asdict().items()})
        assert_close(again, type(task)(*(x[n : n + 1] for x in task)), rtol=0, atol=0)
    for name, known in parameters(family).items():
        for bound in known.bounds if isinstance(known, Range) else known.values:
            make_task(family, **{name: torch.tensor(bound).item()})


@pytest.mark.parametrize(
    ("args", "advice"),
    [
        ((1.0, 0.0), "give finite low <= high"),
        ((0.0, float("inf")), "give finite low <= high"),
        ((float("nan"), 1.0), "give finite low <= high"),
        ((0.0, 1.0, "m", (0.1, 2.0)), r"make it contain \[0, 1\]"),
        ((0.0, 1.0, "m", (-1.0, 0.9)), r"make it contain \[0, 1\]"),
    ],
)
def test_a_range_that_is_none_is_refused(args, advice):
    with pytest.raises(UsageError, match=advice):
        Range(*args)


def test_a_range_is_drawn_uniformly():
    known, u = Range(1.0, 3.0, "m", extrapolation=(0.0, 6.0)), torch.arange(0, 1, 1 / 64)
    assert_close(known.draw(u), 1.0 + 2.0 * u)
    outside = known.draw(u, "extrapolate")  # [0, 1) and [3, 6): a quarter and the rest
    assert_close(outside, torch.cat((torch.arange(0, 1, 1 / 16), torch.arange(3, 6, 1 / 16))))


def test_a_choice_is_drawn_uniformly():
    drawn = Choice((5.0, -1.0, 2.0)).draw(torch.arange(0, 1, 1 / 6))
    assert_close(drawn, torch.tensor([5.0, 5.0, -1.0, -1.0, 2.0, 2.0]))
    almost_one = torch.tensor(1.0).nextafter(torch.tensor(0.0))
    assert Choice((5.0, -1.0, 2.0)).draw(almost_one) == 2.0


def test_a_choice_allows_its_values_in_single_precision():
    known = Choice((0.1, 0.7))
    assert all(known.allows(x) for x in torch.tensor(known.values).tolist())
    assert not any(known.allows(x) for x in (0.0, 0.1001, 0.4, float("nan")))


def test_a_family_without_an_outside_has_nothing_to_extrapolate_to():
    family = PointNavigation(goal_x=Range(-1.0, 1.0, "m"), goal_y=Range(0.0, 1.0, "m"))
    with pytest.raises(UsageError, match=r"point-navigation has nothing .* use --split test"):
        draw(family, split="extrapolate")


def test_one_range_with_an_outside_is_enough_to_extrapolate():
    family = PointNavigation(goal_x=Range(-1.0, 1.0, "m", extrapolation=(-2.0, 1.0)))
    task = draw(family, 50, split="extrapolate")
    assert (task.goal_x < -1.0).all()


def test_only_ranges_and_choices_are_parameters():
    assert list(parameters(make_family("forager"))) == ["berry", "mushroom", "pebble", "keys"]


def test_a_family_may_bring_its_own_simulator():
    class Own(PointNavigation):
        def simulate(self, task, episodes, gen):
            return "own", episodes

    assert simulate(Own(), draw(Own()), 3, None) == ("own", 3)
