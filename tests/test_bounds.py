"""The best returns without adapting: as docs/families.md states them, as attacked, as proven."""

import csv
import re

import pytest
import torch
from attack_bounds import BOUNDS, COLUMNS, FILE, Attacker, attack, even, write

from metarl.envs import make_family

with FILE.open() as table:
    ROWS = list(csv.DictReader(table))
PAGE = (FILE.parent / "families.md").read_text()


def stated(family):
    """The cell `best without adapting` of a family's row: its number and its words."""
    (row,) = re.findall(rf"^\|[^|]*\| `{family}` \|(.*)\|$", PAGE, re.MULTILINE)
    cell = row.split("|")[1].replace("\N{MINUS SIGN}", "-").strip()
    number = re.match(r"-?[\d.]+", cell)
    return number.group(), cell[number.end() :]


@pytest.mark.parametrize("family", BOUNDS)
def test_the_page_states_the_bound_and_how_it_is_known(family):
    bound, kind = BOUNDS[family]
    number, words = stated(family)
    assert number == f"{bound:g}"
    assert f"({kind}" in words


@pytest.mark.parametrize("family", BOUNDS)
def test_no_attack_beats_the_bound_and_a_best_found_is_that_of_the_attack_named(family):
    bound, kind = BOUNDS[family]
    rows = [r for r in ROWS if r["family"] == family]
    assert rows or kind == "proven"
    assert all((float(r["bound"]), r["kind"]) == (bound, kind) for r in rows)
    assert all(int(r["steps"]) >= 3_000_000 for r in rows)
    assert all(float(r["return"]) - float(r["half_width_95"]) <= bound for r in rows)
    named = re.findall(r"`(\w+)`", stated(family)[1])
    assert named or kind == "proven" or family == "acrobot"
    if named:
        best = max(rows, key=lambda r: float(r["return"]))
        assert named == [best["attack"]]
        assert float(best["return"]) == pytest.approx(bound, rel=0.01, abs=0.05)


MIRROR = {
    "cartpole": [-1.0, -1.0, -1.0, -1.0],
    "pendulum": [1.0, -1.0, -1.0],
    "acrobot": [1.0, -1.0, 1.0, -1.0, -1.0, -1.0],
    "pong": [1.0, 1.0, -1.0, -1.0, -1.0, -1.0],
}


@pytest.mark.parametrize("family", [*MIRROR, "breakout"])
def test_even_features_are_the_same_in_mirrored_states_and_in_no_others(family):
    obs = torch.rand(50, *make_family(family).observation_space.shape)
    mirrored = obs * torch.tensor(MIRROR[family]) if family in MIRROR else obs.flip(-1)
    torch.testing.assert_close(even(family, obs), even(family, mirrored))
    assert (even(family, obs) != even(family, obs.roll(1, 0))).any(-1).all()


def test_an_attack_learns_and_replaces_its_own_row_alone(tmp_path, monkeypatch):
    attacker = Attacker("cartpole", "raw", 0)
    before = attacker.evaluate("train", 200, 1, greedy=False).mean()
    assert attacker.learn(60_000, 0, rows=8000) >= 60_000
    assert attacker.evaluate("train", 200, 1, greedy=False).mean() > before + 5
    monkeypatch.setattr("attack_bounds.FILE", tmp_path / "bounds.csv")
    rows = [attack("pong", kind, 100, 0, tasks=4) for kind in ("raw", "even")]
    for row in (*rows, rows[0]):
        write([row])
    with (tmp_path / "bounds.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [r["attack"] for r in found] == ["even", "raw"]
    assert tuple(found[0]) == COLUMNS
