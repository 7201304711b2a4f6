"""The gain over a family's parameters, as a picture."""

import numpy as np
import pytest
import torch

from metarl.envs import UsageError, make_family, parameters, sample_tasks, task_values
from metarl.evaluation.evaluate import Evaluation
from metarl.plotting.episodes import pixels
from metarl.plotting.gain_map import _axis, _means, explained, gain_map, most_telling


def evaluated(name, gain, tasks=40, split="test"):
    """An evaluation of a family whose gain is a function of a task's parameters."""
    family = make_family(name)
    values = task_values(
        sample_tasks(family, tasks, torch.Generator().manual_seed(0), split, "cpu")
    )
    before = np.random.default_rng(0).normal(size=tasks)
    after = before + np.array([gain(v) for v in values])
    returns = np.stack([before, 100 - before, after], axis=1)
    spent = np.zeros_like(returns)
    return Evaluation(name, split, 0, 20, values, returns, spent, None), family


def test_explained_is_one_for_groups_alike_inside_and_nothing_for_chance():
    cell = np.repeat(np.arange(4), 5)
    assert explained(np.array([1.0, 5.0, 2.0, 9.0])[cell], cell) == pytest.approx(1)
    rng = np.random.default_rng(0)
    by_chance = [explained(rng.normal(size=20), cell) for _ in range(400)]
    # Without what chance gives, four groups of 20 numbers explain 3 / 19 of nothing.
    assert abs(np.mean(by_chance)) < 0.03
    assert explained(rng.normal(size=4), np.arange(4)) == -np.inf


def test_the_two_parameters_that_the_gain_depends_on_are_shown():
    result, family = evaluated("cartpole", lambda v: 6 * v["length"] + 3 * v["inverted"], 400)
    assert most_telling(result, family) == ("inverted", "length")
    result, family = evaluated("half-cheetah-vel", lambda v: v["velocity"])
    assert most_telling(result, family) == ("velocity",)


def test_cells_are_means_of_the_tasks_inside():
    result, family = evaluated("point-navigation", lambda v: v["goal_x"] - 2 * v["goal_y"])
    x, y = (_axis(k, p, result, 3) for k, p in parameters(family).items())
    gain = result.returns[:, -1] - result.returns[:, 0]
    means = _means(gain, y.cell, x.cell, shape=(3, 3))
    for row in range(3):
        for column in range(3):
            inside = [
                value["goal_x"] - 2 * value["goal_y"]
                for value in result.params
                if x.edges[column] <= value["goal_x"] < x.edges[column + 1]
                and y.edges[row] <= value["goal_y"] < y.edges[row + 1]
            ]
            assert means[row, column] == pytest.approx(
                np.mean(inside) if inside else np.nan, nan_ok=True
            )


def test_tasks_that_adaptation_makes_better_are_blue_and_worse_red():
    picture = {}
    for sign in (1, -1):
        result, family = evaluated(
            "point-navigation", lambda v, s=sign: 9 * s * np.sign(v["goal_x"])
        )
        figure = gain_map(result, family, ("goal_x", "goal_y"))
        picture[sign] = pixels(figure).astype(int)
    height, width, _ = picture[1].shape
    left, right = (picture[1][:, int(x * width)] for x in (0.15, 0.68))
    bluer = [
        np.median(side[height // 5 : -height // 5, 2] - side[height // 5 : -height // 5, 0])
        for side in (left, right)
    ]
    assert bluer[0] < -50 < 50 < bluer[1]
    assert (picture[1] != picture[-1]).any()


@pytest.mark.parametrize(
    ("name", "gain"),
    [
        ("half-cheetah-dir", lambda v: v["direction"]),  # bars
        ("half-cheetah-mass", lambda v: v["scale"]),  # a curve, over a logarithm
        ("forager", lambda v: v["berry"]),  # a map of sets
        ("tabular-mdp", lambda v: v["reward_0_0"]),  # 550 parameters
    ],
)
def test_every_kind_of_family_has_a_picture_that_its_gain_changes(name, gain):
    pytest.importorskip("mujoco")
    one, family = evaluated(name, gain)
    two, _ = evaluated(name, lambda v: -2 * gain(v))
    shown = most_telling(one, family)
    pictures = [pixels(gain_map(result, family, shown)) for result in (one, two)]
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[0] != pictures[1]).mean() > 0.01


def test_a_parameter_that_does_not_exist_is_named():
    result, family = evaluated("point-navigation", lambda v: 0.0)
    with pytest.raises(UsageError, match="gain over color: give one or two of goal_x, goal_y"):
        gain_map(result, family, ("goal_x", "color"))


def test_no_gain_at_all_can_be_drawn():
    result, family = evaluated("point-navigation", lambda v: 0.0)
    result.returns[:, -1] = result.returns[:, 0]
    assert pixels(gain_map(result, family)).std() > 1


def texts(result, family, names):
    """All texts of a gain map, and whether any two of one kind overlap."""
    figure = gain_map(result, family, names)
    figure.canvas.draw()
    plot = figure.axes[0]
    cells = [t for t in plot.texts if t.get_text()]
    kinds = [cells, plot.get_xticklabels(), plot.get_yticklabels()]
    overlap = False
    for kind in kinds:
        boxes = [t.get_window_extent() for t in kind if t.get_text() and t.get_visible()]
        overlap |= any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    return [t.get_text() for t in cells], overlap


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("forager", ("keys", "berry")),
        ("forager", ("berry", "keys")),
        ("forager", ("berry", "mushroom")),
        ("half-cheetah-mass", ("scale",)),
        ("word-guess", ("vowels", "consonants")),
    ],
)
def test_labels_and_numbers_do_not_overlap(name, names):
    pytest.importorskip("mujoco")
    result, family = evaluated(name, lambda v: 20.0 + v[names[0]], tasks=96)
    assert not texts(result, family, names)[1]


def test_numbers_of_a_map_have_the_digits_of_the_largest():
    result, family = evaluated("forager", lambda v: 30 * v["berry"] + 5e-9, tasks=96)
    shown, _ = texts(result, family, ("berry", "mushroom"))
    assert set(shown) == {"-30.0", "0.0", "30.0"}


def test_a_legend_covers_no_data():
    pytest.importorskip("mujoco")
    result, family = evaluated("half-cheetah-mass", lambda v: v["scale"])
    figure = gain_map(result, family)
    figure.canvas.draw()
    (legend,) = figure.legends
    assert not figure.axes[0].get_window_extent().overlaps(legend.get_window_extent())
