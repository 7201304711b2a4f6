"""`metarl evaluate --baselines`: PPO beside an agent, with the same budget on the same variants."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from small import TINY, metarl

from envs import make_family, make_task, parameters
from metarl.baselines import Baseline, Contest, _seed, baselines
from metarl.beside import _show
from metarl.config import RunConfig, TrainConfig
from metarl.ppo import PPOSettings, adapt_to_variant, train_on_variant, train_over_variants
from metarl.scripted import random_return
from metarl.verdict import Scale

CFG = PPOSettings(gamma=0.5, gae_lambda=0.5, hidden=(32,), lr=1e-2)


def rps():
    """One variant of rock, paper, scissors against an opponent with habits."""
    family = make_family("repeated-rps")
    return family, make_task(family)


def test_ppo_gets_better_on_one_variant_and_pays_for_what_it_plays():
    family, task = rps()
    returns, spent = adapt_to_variant(CFG, family, task, 40, 20, 6, None)
    assert returns[-1] > returns[0] + 5.0
    assert spent.tolist() == [family.horizon * 20 * k for k in range(7)]


def test_an_update_costs_the_steps_of_the_episodes_that_the_policy_plays():
    family = make_family("cartpole")  # a policy at random falls after some twenty steps
    _, spent = adapt_to_variant(CFG, family, make_task(family), 30, 10, 1, None)
    assert 10 * 15 < spent[1] < 10 * 40 < 10 * family.horizon


def test_adaptation_begins_where_the_start_is():
    family, task = rps()
    start = train_over_variants(CFG, family, 2000, variants=20, rollouts=1)
    fresh, _ = adapt_to_variant(CFG, family, task, 40, 20, 0, None)
    before = [p.clone() for p in start.policy.parameters()]
    again = [adapt_to_variant(CFG, family, task, 40, 20, 1, start)[0] for _ in range(2)]
    np.testing.assert_array_equal(*again)
    assert again[0][0] != fresh[0]
    assert all((a == b).all() for a, b in zip(before, start.policy.parameters(), strict=True))


def test_one_policy_for_all_variants_gains_nothing_where_only_adapting_helps():
    family = make_family("bandit")
    model = train_over_variants(CFG, family, 20_000, variants=50)
    best = [0.9, 0.1, 0.1, 0.1, 0.1]
    arms = {f"arm_{i}": p for i, p in enumerate(best)}
    worst = {f"arm_{i}": p for i, p in enumerate(best[::-1])}
    zero_shot = [
        adapt_to_variant(CFG, family, make_task(family, **v), 100, 5, 0, model)[0][0]
        for v in (arms, worst)
    ]
    assert sum(zero_shot) / 2 < 0.65 * family.horizon
    alone = train_on_variant(CFG, family, make_task(family, **arms), 50, 10_000)
    assert alone > 0.8 * family.horizon


@pytest.fixture(autouse=True)
def _few_trials(monkeypatch):
    monkeypatch.setattr("metarl.baselines.RATES", (1e-3, 1e-2))
    monkeypatch.setattr("metarl.baselines.TUNED_ON", 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "rps"
    assert metarl(f"train repeated-rps {TINY} --quiet --run", folder)[0] == 0
    return folder


def test_the_command_sets_all_side_by_side_and_keeps_what_it_trained(run):
    words = "--baselines --baseline-steps 1000 --tasks 6 --episodes 4 --steps 1 --json -"
    code, out, err = metarl("evaluate", run, words)
    assert code == 0, err
    record = json.loads(out)
    rows = record["baselines"]
    assert list(rows) == [
        "promp, meta-trained",
        "promp from scratch",
        "PPO from scratch",
        "multi-task PPO",
    ]
    assert all(np.array(row["per_task"]).shape == (6, 2) for row in rows.values())
    assert rows["promp, meta-trained"]["return_mean"] == record["return_mean"]
    assert rows["PPO from scratch"]["adaptation_env_steps"][1] == record["adaptation_env_steps"][1]
    assert record["verdict"].startswith(("adapts: ", "no significant gain: ", "adaptation harms: "))
    assert record["random_mean"] < record["oracle_mean"]
    assert (run / "baselines-test.png").stat().st_size > 10_000

    kept = {p: p.stat().st_mtime_ns for p in (run.parent / "baselines").rglob("*.zip")}
    assert len(kept) == 1
    again = json.loads(metarl("evaluate", run, words)[1])
    assert again == record
    assert {p: p.stat().st_mtime_ns for p in (run.parent / "baselines").rglob("*.zip")} == kept


def test_a_seed_of_any_size_is_one_that_sb3_takes():
    assert _seed(10**12, 3) != _seed(10**12, 4)
    assert 0 <= _seed(10**12, 3) < 2**31


def contest(**more):
    usual = {name: p.usual for name, p in parameters(make_family("pendulum")).items()}
    given = {"seed": 0, "episodes": 2, "budget": 2, "steps": 1, "env_steps": 1000}
    train = TrainConfig(family="pendulum")
    return Contest(train, RunConfig(), "test", params=(usual, usual), **{**given, **more})


def test_where_no_best_play_is_known_ppo_learns_each_variant_once(tmp_path):
    told = []
    found = baselines(contest(oracle_steps=1000), tmp_path, lambda *counts: told.append(counts))
    # The model, a tuning of each start, the two variants as one part of each, one oracle.
    assert told[-1] == (1 + 2 * (2 + 1) + 1,) * 2
    assert found["oracle"].returns.shape == (2, 1)
    assert found["oracle"].returns[0] == found["oracle"].returns[1]
    told.clear()
    again = baselines(contest(oracle_steps=1000), tmp_path, lambda *counts: told.append(counts))
    assert told == []
    np.testing.assert_array_equal(again["oracle"].returns, found["oracle"].returns)


def test_a_cache_is_of_one_world_one_budget_and_one_choice_of_variants():
    one = contest()
    others = [replace(one, env_steps=2000), replace(one, train=replace(one.train, set=("m=2",)))]
    assert all(other.world != one.world for other in others)
    assert replace(one, train=replace(one.train, algo="maml", seed=3)).world == one.world


def test_random_play_is_uniform():
    family = make_family("bandit")
    task = make_task(family, **{f"arm_{i}": p for i, p in enumerate((1.0, 0.0, 0.0, 0.0, 0.0))})
    got = random_return(family, task, 4000, None)
    assert got[0] == pytest.approx(family.horizon / 5, rel=0.03)


def test_the_scale_runs_from_chance_to_the_oracle():
    scale = Scale(random=-10.0, oracle=30.0)
    assert scale.share(np.array([10.0, 30.0])) == 0.75
    assert Scale(random=1.0, oracle=1.0).share(np.array([1.0])) is None


@pytest.mark.parametrize("size", [1.0, 60.0, 200.0, 2000.0])
def test_the_table_fits_on_eighty_columns(size, capsys):
    ret = -size * np.linspace(0.5, 1, 40)[:, None] * np.ones(4)
    rows = {n: Baseline(ret, ret) for n in ("promp, meta-trained", "maml-trpo, meta-trained")}
    console = Console(width=80)
    _show(console, rows, Scale(-size, size), seed=0)
    out = capsys.readouterr().out
    assert "…" not in out
    assert out.count("[-") == 2, out
