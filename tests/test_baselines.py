"""`metarl evaluate --baselines`: PPO beside an agent, with the same budget on the same variants."""

import base64
import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from small import TINY, metarl, refused

from metarl import preset
from metarl.baselines import tuning
from metarl.baselines.baseline_spec import BaselineSpec
from metarl.baselines.baselines import Baseline, Player
from metarl.baselines.job_pool import JobPool, seed
from metarl.baselines.ppo_model import PPOSettings, weights_of
from metarl.baselines.sb3_ppo import (
    LongTraining,
    adapt_to_variant,
    train_on_variant,
    train_over_variants,
)
from metarl.baselines.verdict import Scale
from metarl.cli import evaluate_baselines as beside
from metarl.cli.evaluate_baselines import _show
from metarl.config.settings import RunConfig
from metarl.envs import UsageError, make_family, make_task, parameters, task_values
from metarl.evaluation.scripted_policies import random_return

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
    start = weights_of(train_over_variants(CFG, family, 2000))
    fresh, _ = adapt_to_variant(CFG, family, task, 40, 20, 0, None)
    before = {k: p.clone() for k, p in start.items()}
    again = [adapt_to_variant(CFG, family, task, 40, 20, 1, start)[0] for _ in range(2)]
    np.testing.assert_array_equal(*again)
    assert again[0][0] != fresh[0]
    assert all((before[k] == start[k]).all() for k in start)


def test_one_policy_for_all_variants_gains_nothing_where_only_adapting_helps():
    family = make_family("bandit")
    model = weights_of(train_over_variants(CFG, family, 20_000))
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


def test_a_training_over_variants_takes_the_steps_that_it_is_given():
    family = make_family("repeated-rps")
    for steps in (1000, 5000, 10_000, 99_999, 1_000_000, 10_000_000):
        plan = LongTraining(family, steps)
        assert plan.chunk * plan.chunks == pytest.approx(steps, rel=0.1)
    played = []
    train_over_variants(CFG, family, 10_000, lambda done, model: played.append(model.num_timesteps))
    assert sum(played) == pytest.approx(10_000, rel=0.1)


def test_a_training_that_goes_on_from_a_snapshot_is_the_one_that_never_stopped():
    family, parts = make_family("repeated-rps"), {}
    train_over_variants(CFG, family, 4000, lambda done, m: parts.setdefault(done, weights_of(m)))
    half, last = sorted(parts)[0], max(parts)
    again = train_over_variants(CFG, family, 4000, start=(half, parts[half]))
    for name, x in weights_of(again).items():
        assert (x == parts[last][name]).all(), name


def few_candidates(monkeypatch):
    monkeypatch.setattr(tuning, "RATES", (1e-3, 1e-2))
    monkeypatch.setattr(tuning, "PASSES", ((10, 4),))
    monkeypatch.setattr(tuning, "ENTROPIES", (0.0,))
    monkeypatch.setattr(tuning, "SLOWER", (1.0,))
    monkeypatch.setattr(tuning, "HEADS", (1.0, 0.1))
    monkeypatch.setattr(tuning, "ROUNDS", (1,))


@pytest.fixture(autouse=True)
def _few_candidates(monkeypatch):
    few_candidates(monkeypatch)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "rps"
    assert metarl(f"train repeated-rps {TINY} --quiet --run", folder)[0] == 0
    return folder


SMALL = "--baselines --tasks 6 --episodes 4 --steps 1 --json -"
ALTERNATIVES = [
    "promp from scratch",
    "PPO from scratch",
    "multi-task, zero-shot",
    "multi-task PPO",
    "recurrent PPO",
]


@pytest.fixture(scope="module")
def record(run):
    with pytest.MonkeyPatch.context() as patch:
        few_candidates(patch)
        code, out, err = metarl("evaluate", run, SMALL)
    assert code == 0, err
    return json.loads(out)


def test_the_command_compares_with_all_alternatives(run, record):
    rows = record["baselines"]
    assert list(rows) == ["promp, meta-trained", *ALTERNATIVES, "told the task"]
    alone = ("multi-task, zero-shot", "told the task")  # they don't adapt
    assert all(
        np.array(row["per_task"]).shape == (6, 1 + (k not in alone)) for k, row in rows.items()
    )
    assert rows["promp, meta-trained"]["return_mean"] == record["return_mean"]
    assert rows["PPO from scratch"]["adaptation_env_steps"][1] == record["adaptation_env_steps"][1]
    assert record["random_mean"] < record["oracle_mean"]
    assert (run / "baselines-test.png").stat().st_size > 10_000


def test_what_is_trained_has_the_steps_of_the_run(run, record):
    rows, steps = record["baselines"], record["baseline_env_steps"]
    assert steps == record["env_steps_trained"] > 0
    assert rows["told the task"]["chosen"]["trained_env_steps"] == steps
    assert rows["recurrent PPO"]["chosen"]["trained_env_steps"] == steps
    for name in ("multi-task PPO", "multi-task, zero-shot"):
        assert 0 < rows[name]["chosen"]["pretrained_env_steps"] <= 1.1 * steps


def test_the_table_says_what_was_chosen(run, record):
    code, out, err = metarl("evaluate", run, SMALL.replace("--json -", ""))
    assert code == 0, err
    for name in ALTERNATIVES[1:]:
        (line,) = [x for x in out.splitlines() if x.startswith(f"  {name}: ")]
        for key in record["baselines"][name]["chosen"]:
            assert key.replace("_", " ") in line
        assert "lr" in line or name in ("multi-task, zero-shot", "recurrent PPO")


def test_the_verdict_hears_of_every_alternative_but_the_one_that_is_told(run, record, monkeypatch):
    heard = []

    def listen(result, others, scale):
        heard.extend(others)
        return "said"

    monkeypatch.setattr(beside, "verdict", listen)
    assert json.loads(metarl("evaluate", run, SMALL)[1])["verdict"] == "said"
    assert heard == ALTERNATIVES


def cache(run):
    return {p: p.stat().st_mtime_ns for p in (run.parent / "baselines").rglob("*") if p.is_file()}


def test_a_second_evaluation_reads_what_the_first_one_left(run, record, monkeypatch):
    monkeypatch.setattr(JobPool, "submit", None)
    left = {p: t for p, t in cache(run).items() if p.name != "about.json"}
    assert json.loads(metarl("evaluate", run, SMALL)[1]) == record
    assert {p: t for p, t in cache(run).items() if p.name != "about.json"} == left


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_the_cache_is_unpickled(run, record, tmp_path):
    """Weights are read where a pickle of SB3's, as metarl left it in format 1, would do harm."""
    mark = tmp_path / "opened"
    code = base64.b64encode(pickle.dumps(Evil(mark))).decode()
    data = json.dumps({"policy_class": {":type:": "type", ":serialized:": code}})
    (home,) = (run.parent / "baselines").iterdir()
    with zipfile.ZipFile(home / "multi-task.zip", "w") as poisoned:
        poisoned.writestr("data", data)
    for played in home.glob("test-*/multi-task-*.json"):
        played.unlink()
    assert json.loads(metarl("evaluate", run, SMALL)[1])["baselines"] == record["baselines"]
    (home / "multi-task.zip").unlink()
    assert not mark.exists()


@pytest.mark.parametrize("ending", ["safetensors", "json"])
def test_damage_in_the_cache_is_one_line(run, record, ending):
    (home,) = (run.parent / "baselines").iterdir()
    for played in home.glob("test-*/told*.json"):
        played.unlink()
    (path,) = home.glob(f"told-*.{ending}")
    whole = path.read_bytes()
    path.write_bytes(whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:])
    refused("evaluate", run, SMALL, code=2, parts=[str(path), "is damaged: delete it"])
    path.write_bytes(whole)


def test_budgets_can_be_given(run, monkeypatch):
    asked = []

    def stop(spec, folder, report):
        asked.append(spec)
        raise UsageError("enough.")

    monkeypatch.setattr(beside, "baselines", stop)
    for words in ("", "--baseline-steps 300", "--baseline-steps 300 --told-steps 900"):
        refused("evaluate", run, SMALL, words, code=2, parts=["enough"])
    own = asked[0].env_steps
    assert [(s.env_steps, s.told_steps) for s in asked] == [(own, own), (300, 300), (300, 900)]


def test_a_seed_of_any_size_is_one_that_sb3_takes():
    assert seed(10**12, 3) != seed(10**12, 4)
    assert 0 <= seed(10**12, 3) < 2**31


def spec(family="pendulum", **more):
    defaults = {name: p.default_value for name, p in parameters(make_family(family)).items()}
    given = {"seed": 0, "episodes": 2, "budget": 2, "steps": 1, "env_steps": 1000}
    train = preset(family)
    params = {"params": (defaults, defaults), "told_steps": 1000}
    return BaselineSpec(train, RunConfig(), "test", **{**params, **given, **more})


def test_choices_are_made_on_training_tasks_that_no_evaluation_draws():
    one = spec("forager", seed=0)
    family = make_family("forager")
    tasks = [task_values(family.members(split)) for split in ("train", "test")]
    assert one.tuning.split == "train" != one.split
    assert one.tuning.seed != one.seed
    assert len(one.tuning.params) == max(tuning.ROUNDS)
    assert all(p in tasks[0] and p not in tasks[1] for p in one.tuning.params)
    assert replace(one, seed=7, params=()).tuning.params == one.tuning.params


def test_where_no_best_play_is_known_ppo_learns_each_variant_once(tmp_path):
    counts = []
    for _ in range(2):
        with JobPool(lambda *done_and_asked: counts.append(done_and_asked)) as jobs:
            found = Player(spec(oracle_steps=1000), tmp_path, jobs).oracle()
        assert found.returns.shape == (2, 1)
        assert found.returns[0] == found.returns[1]
        assert counts == [(1, 1)]


def test_a_cache_is_of_one_family_and_one_budget_whatever_the_agent():
    one = spec()
    others = [
        replace(one, env_steps=2000),
        replace(one, train=replace(one.train, set=("horizon=50",))),
        replace(one, train=replace(one.train, gamma=0.5)),  # asked for on the command line
    ]
    assert all(other.key != one.key for other in others)
    assert replace(one, train=replace(one.train, seed=3)).key == one.key
    assert replace(one, train=preset("pendulum", "maml")).key == one.key


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
    _show(console, rows, Scale(-size, size))
    out = capsys.readouterr().out
    assert "…" not in out
    assert out.count("[-") == 2, out
