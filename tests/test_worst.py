"""The worst variants, the command that shows one, and the figure of all of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import at, metarl, refused, small

from metarl.cli.arguments import Watch
from metarl.cli.hardest_tasks import replay, worst
from metarl.cli.main import parse
from metarl.cli.watch import choose_task
from metarl.config.settings import RunConfig
from metarl.envs import make_family, task_values
from metarl.evaluation.evaluate import evaluate
from metarl.evaluation.result import Evaluation
from metarl.experiment.checkpoint import save_checkpoint
from metarl.experiment.run import start
from metarl.plotting.task_figures import encode, per_task
from metarl.training.meta_train import new_agent

USAGE = 2


def result_of(name, **how):
    family = make_family(name)
    return family, evaluate(new_agent(small(name), family), family, episodes=2, steps=1, **how)


def test_the_worst_have_the_lowest_return_after_adaptation():
    returns = np.array([[0.0, 3.0], [-9.0, 2.0], [5.0, -1.0], [1.0, 2.0]])
    params = [{"x": float(i)} for i in range(4)]
    oracle = np.array([10.0, 11.0, 12.0, 13.0])
    result = Evaluation("walk", "test", 0, 2, params, returns, 0 * returns, oracle)
    found = worst(result, 3)
    assert [v.number for v in found] == [2, 1, 3]  # of equals the first
    assert found[0] == (2, {"x": 2.0}, 5.0, -1.0, 12.0)
    assert worst(result, 0) == []
    assert len(worst(result, 99)) == 4


@pytest.mark.parametrize("name", ["forager", "point-navigation", "tabular-mdp"])
def test_the_command_plays_the_very_task(name):
    family, result = result_of(name, tasks=6, seed=3)
    for variant in worst(result, 6):
        words = replay(Path("runs/one"), family, result, variant).split()
        assert words[0] == "metarl"
        command = parse(words[1:])
        assert isinstance(command, Watch)
        task = choose_task(command, family, new_agent(small(name), family).device)
        assert task_values(task)[0] == variant.params


def test_labels_are_what_a_command_takes():
    family, result = result_of("cartpole", tasks=3)
    words = replay(Path("a b"), family, result, worst(result, 1)[0])
    assert words.startswith("metarl watch 'a b' --")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    job = start(folder, small("point-navigation"), RunConfig(eval_steps=1))
    save_checkpoint(folder / "checkpoints", "point-navigation", at(job.state, 1))
    return folder


def test_evaluate_lists_the_worst_and_draws_all(run, tmp_path):
    plot = tmp_path / "tasks.png"
    words = ("evaluate", run, "--tasks 5 --episodes 2 --steps 1 --worst 2 --plot", plot)
    code, out, err = metarl(*words)
    assert (code, err) == (0, "")
    assert out.count(f"metarl watch {run} --variant goal_x=") == 2
    assert Image.open(plot).width > 900
    out = metarl("evaluate", run, "--tasks 5 --episodes 2 --steps 1 --worst 0")[1]
    assert "metarl watch" not in out


@pytest.mark.parametrize(
    ("plot", "part"), [("a.gif", "give one of .png, .svg, .pdf"), ("gone/a.png", "no folder gone")]
)
def test_a_figure_that_cannot_be_written_is_refused_first(run, plot, part, monkeypatch):
    monkeypatch.setattr("metarl.cli.evaluate.open_run", None)
    refused("evaluate", run, "--plot", plot, code=USAGE, parts=(f"--plot {plot}", part))


@pytest.mark.parametrize("name", ["forager", "point-navigation"])
def test_the_figure_has_two_dots_for_each_task(name):
    family, result = result_of(name, tasks=6)
    figure = per_task(result, family)
    for axes in figure.axes:
        before, after = axes.lines[:2]
        assert sorted(before.get_ydata()) == sorted(result.returns[:, 0])
        assert sorted(after.get_ydata()) == sorted(result.returns[:, 1])
        assert len(set(after.get_xdata())) == 6  # none hides another
    first = figure.axes[0].lines[1]
    by_place = first.get_ydata()[np.argsort(first.get_xdata())]
    np.testing.assert_array_equal(by_place, np.sort(result.returns[:, 1]))
    assert encode(figure, ".svg").startswith(b"<?xml")
