"""`metarl evaluate --comparators`: totals of a trial, of the agent and of classical rules."""

import json

import pytest
from small import TINY, metarl, refused

from metarl.cli.main import USAGE


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A tiny run of each algorithm and family, by name."""
    folder = tmp_path_factory.mktemp("runs")
    for family, algo in (("bandit", "rl2"), ("bandit", "promp"), ("cartpole", "rl2")):
        words = f"train {family} --algo {algo} {TINY} --quiet --run"
        assert metarl(words, folder / f"{family}-{algo}")[0] == 0
    return folder


def test_totals_are_of_whole_trials_of_the_same_tasks(runs):
    code, out, _ = metarl("evaluate", runs / "bandit-rl2", "--steps 2 --comparators --json -")
    record = json.loads(out)
    totals = record["trial_totals"]
    assert code == 0
    assert totals["this agent"] == pytest.approx(sum(record["return_mean"]))
    assert totals["random"] == pytest.approx(15.0, abs=1.0)  # three episodes of ten pulls
    assert totals["gittins"] > totals["random"] + 3.0
    code, table, _ = metarl("evaluate", runs / "bandit-rl2", "--steps 0 --comparators")
    assert "total in a trial of 1 episode" in table
    assert table.index("gittins") < table.index("random")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("bandit-promp", ("adapts its weights", "--algo rl2")),
        ("cartpole-rl2", ("none for cartpole", "tabular-mdp")),
    ],
)
def test_agents_and_families_without_such_totals_are_refused(runs, name, parts):
    words = ("evaluate", runs / name, "--tasks 2 --episodes 2 --steps 1 --comparators")
    refused(*words, code=USAGE, parts=("--comparators", *parts))
