"""Settings that exclude each other are refused in one line that says what to change."""

import json

import pytest
from small import TINY, metarl, refused, small

from metarl.cli.main import USAGE
from metarl.config.compatibility import check_combination
from metarl.config.published import ALGORITHMS
from metarl.config.settings import TrainConfig
from metarl.envs import UsageError, make_family
from metarl.training.meta_train import new_agent

CLASHES = [
    ({"outer": "implicit"}, "--epochs 5 with --outer implicit: .* give --epochs 1"),
    (
        {"outer": "es", "epochs": 1},
        "--step-size per-weight with --outer es: .* give --step-size fixed",
    ),
    (
        {"outer": "reptile", "epochs": 1},
        "--step-size per-weight with --outer reptile: .*--step-size fixed",
    ),
    (
        {"outer": "reptile", "epochs": 1, "step_size": "fixed", "fast": "head"},
        "--fast head with --outer reptile: .* give --fast all",
    ),
    (
        {"outer": "es", "epochs": 1, "step_size": "fixed", "multi_step": True},
        "--multi-step with --outer es: .* give --no-multi-step",
    ),
    (
        {"outer": "es", "epochs": 1, "step_size": "fixed", "exploration": 0.5},
        "--exploration 0.5 with --outer es: .* give --exploration 0",
    ),
    (
        {"exploration": 1.0, "tasks": 60},
        "--exploration 1 with --task-chunk 50: .* give --task-chunk 60",
    ),
    ({"outer": "trpo"}, "--epochs 5 with --outer trpo: .* give --epochs 1"),
    (
        {"memory": "gru", "outer": "ppo", "fast": "head"},
        "--fast head with --memory gru: .* leave out one",
    ),
    (
        {"memory": "gru", "outer": "ppo", "baseline": "learned"},
        "--baseline learned with --memory gru: .* leave out one",
    ),
    (
        {"memory": "fwp", "outer": "ppo", "network": "cnn"},
        "--network cnn with --memory fwp: .* leave out one",
    ),
    ({"memory": "gru"}, "--memory gru with --outer gradient: .* give --outer ppo"),
    ({"outer": "ppo"}, "--memory none with --outer ppo: .* give --outer ppo and --memory gru"),
]


@pytest.mark.parametrize(("settings", "advice"), CLASHES)
def test_settings_that_exclude_each_other_are_refused(settings, advice):
    with pytest.raises(UsageError, match=advice):
        check_combination(TrainConfig(**settings))
    with pytest.raises(UsageError, match=advice):
        new_agent(TrainConfig(family="cartpole", **settings), make_family("cartpole"))


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("family", ["point-navigation", "cartpole", "forager"])
def test_no_published_algorithm_is_refused(family, algo):
    check_combination(small(family, algo))


def test_a_clash_on_the_command_line_is_one_line_and_leaves_no_folder(tmp_path):
    words = f"train point-navigation --outer es --epochs 1 {TINY} --run"
    parts = ("--step-size per-step with --outer es", "give --step-size fixed")
    assert refused(words, tmp_path / "run", code=USAGE, parts=parts) == ""
    assert not (tmp_path / "run").exists()


def test_algorithms_are_listed_with_sources_and_what_differs():
    code, out, _ = metarl("algos --json")
    records = {record["name"]: record for record in json.loads(out)}
    assert code == 0
    assert list(records) == list(ALGORITHMS)
    assert records["fomaml"]["settings"]["second_order_steps"] == 0
    code, table, _ = metarl("algos")
    assert code == 0
    for name, record in records.items():
        assert name in table
        assert "arXiv:" in record["source"]


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_an_algorithm_is_settings_that_differ_from_the_default(algo):
    """What is as it would be anyway need not be said, but for what a family might change."""
    fixed = ALGORITHMS[algo].settings
    default = TrainConfig()
    assert all(hasattr(default, name) for name in fixed)
    assert algo == "promp" or any(getattr(default, k) != v for k, v in fixed.items())
