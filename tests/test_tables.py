"""The table of an evaluation: what its intervals are of, and bars of the gain that start at 0."""

import io

import numpy as np
import pytest
from agents_reference import Walk
from rich.console import Console

from metarl.cli.tables import bar, show_returns
from metarl.evaluation.result import Evaluation


@pytest.mark.parametrize(
    ("ends", "axis", "drawn"),
    [
        ((4.2, 6.5), (0.0, 7.0), "│████░░░"),
        ((6.9, 6.95), (0.0, 7.0), "│██████░"),  # an interval is never less than a cell
        ((7.0, 7.0), (0.0, 7.0), "│███████"),  # a single number has none
        ((-1.5, 2.5), (-2.0, 5.0), "░░│░░░"),  # it holds 0: nothing is filled
        ((-4.9, -3.2), (-5.0, 2.0), "░░███│"),
        ((0.0, 0.0), (0.0, 7.0), "│"),
        ((0.0, 0.0), (0.0, 0.0), ""),
    ],
)
def test_a_bar_goes_from_0_to_its_interval(ends, axis, drawn):
    assert bar(ends, axis) == drawn


def shown(returns, few_tasks=False):
    console = Console(width=80, record=True, file=io.StringIO())
    returns = np.array(returns)
    params = [{"length": float(n % 2)} for n in range(len(returns))]
    steps = np.zeros_like(returns)
    result = Evaluation("walk", "test", 0, 5, params, returns, steps, None, few_tasks=few_tasks)
    show_returns(console, result, Walk())
    return console.export_text()


def test_the_title_says_what_the_intervals_are_of():
    noise = np.random.default_rng(0).normal(size=(40, 2))
    assert "intervals: this run, over tasks " in shown(noise)
    assert "intervals: this run, over episodes of its 2 tasks " in shown(noise, few_tasks=True)


def test_returns_below_0_have_bars_of_their_gain():
    """A bar is short where little is gained, not where the return is low."""
    noise = np.random.default_rng(0).normal(0.0, 0.1, size=(40, 3))
    lines = shown(noise + np.array([-100.0, -90.0, -30.0])).splitlines()
    cells = {k: line.split("│")[1] for k in "012" for line in lines if line.split()[:1] == [k]}
    assert cells["0"].strip() == ""
    assert len(cells["1"].strip()) < len(cells["2"].strip()) == 7
