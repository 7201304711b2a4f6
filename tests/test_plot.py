"""`metarl.plot`: figures of what the Python functions return, as the commands draw them."""

import dataclasses
import io
import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from small import metarl as command

import metarl
from metarl.baselines.baselines import Baseline
from metarl.plotting.episodes import pixels

SMALL = {"iterations": 1, "tasks": 2, "episodes": 2, "hidden": (8,), "eval_steps": 1, "threads": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        metarl.train("point-navigation", run=folder / f"{seed}", seed=seed, **SMALL)
        for seed in (0, 1)
    ]


def texts(figure):
    """All that is written in a figure."""
    return " ".join(t.get_text() for t in figure.findobj(match=lambda x: hasattr(x, "get_text")))


def test_the_figures_of_a_run_are_those_in_its_folder(runs):
    run = runs[0]
    for figure, name in (
        (metarl.plot.adaptation_curve(run.evaluation), "adaptation.png"),
        (metarl.plot.gain_map(run.evaluation, run.family), "gain.png"),
    ):
        written = np.asarray(Image.open(run.folder / name))
        np.testing.assert_array_equal(pixels(figure), written)


def test_every_function_gives_a_figure_that_can_be_saved(runs):
    run = runs[0]
    frames = metarl.plot.before_and_after(run)
    names = set(metarl.plot.__all__) - {"before_and_after"}
    figures = {
        "adaptation_curve": metarl.plot.adaptation_curve(run.evaluation),
        "gain_map": metarl.plot.gain_map(run.evaluation, run.family, ("goal_x",)),
        "per_task": metarl.plot.per_task(run.evaluation, run.family),
        "comparison": metarl.plot.comparison(runs),
        "budget_curve": metarl.plot.budget_curve({"agent": run.evaluation}, run.family),
        "contact_sheet": metarl.plot.contact_sheet(frames),
    }
    assert figures.keys() == names
    for figure in figures.values():
        assert isinstance(figure, Figure)
        figure.savefig(file := io.BytesIO(), format="svg")
        assert file.getvalue().startswith(b"<?xml")


def test_seeds_are_one_curve_as_in_the_command(runs, tmp_path):
    figure = metarl.plot.comparison(runs)
    assert "promp (2 seeds)" in texts(figure)
    words = "--tasks 40 --seed 0 --json"
    assert command("compare", *(r.folder for r in runs), words, tmp_path / "c.json")[0] == 0
    (row,) = json.loads((tmp_path / "c.json").read_text())["rows"]
    (line,) = [x for x in figure.axes[0].lines if len(x.get_xdata()) == 2 and x.get_marker() == "o"]
    np.testing.assert_allclose(line.get_ydata(), row["return_mean"])


def test_runs_on_other_tasks_are_not_compared(runs):
    other = metarl.evaluate(runs[1].agent, runs[1].family, seed=5, steps=1, episodes=2)
    with pytest.raises(metarl.UsageError, match=r"/1 was evaluated on other tasks, .* give runs"):
        metarl.plot.comparison([runs[0], dataclasses.replace(runs[1], evaluation=other)])
    with pytest.raises(metarl.UsageError, match="/1 has no evaluation of its present state"):
        metarl.plot.comparison([runs[0], dataclasses.replace(runs[1], evaluation=None)])
    with pytest.raises(metarl.UsageError, match="given twice"):
        metarl.plot.comparison([runs[0], runs[0]])


def test_alternatives_stand_next_to_the_agent_and_chance(runs):
    result = runs[0].evaluation
    other = Baseline(result.returns + 1, result.env_steps)
    figure = metarl.plot.budget_curve({"agent": result, "other": other}, runs[0].family)
    named = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    np.testing.assert_allclose(named["other"], named["agent"] + 1)
    np.testing.assert_allclose(named["agent"], result.mean)
    assert {"oracle", "random actions"} <= named.keys()
    assert named["random actions"][0] < named["oracle"][0]
    blind = dataclasses.replace(result, oracle=None)
    assert "oracle" not in texts(metarl.plot.budget_curve({"agent": blind}, runs[0].family))
    with pytest.raises(metarl.UsageError, match="first row is no Evaluation"):
        metarl.plot.budget_curve({"other": other}, runs[0].family)


def test_a_film_is_that_of_the_folder_or_of_the_task_that_is_asked_for(runs):
    run = runs[0]
    frames = metarl.plot.before_and_after(run)
    with Image.open(run.folder / "episode.gif") as film:
        assert (film.n_frames, film.size) == (len(frames), frames[0].shape[1::-1])
    task = metarl.make_task(run.family, goal_x=0.4, goal_y=0.4)
    assert (metarl.plot.before_and_after(run, task)[0] != frames[0]).any()


def test_a_contact_sheet_runs_from_the_first_frame_to_the_last():
    frames = [np.full((4, 6, 3), i, np.uint8) for i in range(10)]
    figure = metarl.plot.contact_sheet(frames, count=4, columns=3)
    shown = [int(axes.images[0].get_array()[0, 0, 0]) for axes in figure.axes if axes.images]
    assert shown == [0, 3, 6, 9]
    assert len(metarl.plot.contact_sheet(frames[:2], count=4).axes) == 2


def test_a_family_without_pictures_is_told(runs):
    class Blind:
        name = "blind"

    with pytest.raises(metarl.UsageError, match="blind has no pictures: give it a frame"):
        metarl.plot.before_and_after(dataclasses.replace(runs[0], family=Blind()))
