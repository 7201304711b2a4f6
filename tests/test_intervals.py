"""Means, intervals and the record of an evaluation are what their names say."""

import dataclasses
import json

import numpy as np
import pytest
from agents_reference import Walk
from reference import TENSOR
from scipy import stats
from small import small

from metarl.envs import Choice, Range, make_family, parameters
from metarl.evaluation.evaluate import evaluate, few_tasks
from metarl.evaluation.result import Evaluation
from metarl.training.meta_train import new_agent

FIELDS = {
    "success", "step_name", "adaptation_env_steps", "intervals", "few_tasks",
    "family", "algo", "split", "seed", "tasks", "episodes", "env_steps_trained", "steps",
    "deterministic",
    "return_mean", "return_ci95", "return_iqm", "gain_ci95", "oracle_mean", "per_task",
}  # fmt: skip
PER_TASK = {"params", "returns", "standard_error", "env_steps", "oracle", "success"}


@pytest.mark.parametrize("name", TENSOR)
def test_the_record_has_the_promised_fields_over_steps_0_to_k(name):
    family = make_family(name)
    record = evaluate(new_agent(small(name), family), family, "test", 5, 2, 2, seed=6).to_json(
        "maml", 99
    )
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record.keys() == FIELDS
    asked = {"family": name, "algo": "maml", "split": "test", "seed": 6, "tasks": 5}
    asked |= {"episodes": 2, "env_steps_trained": 99, "steps": 2}
    assert {k: record[k] for k in asked} == asked
    for column in ("return_mean", "return_iqm"):
        assert np.shape(record[column]) == (3,)
    for column in ("return_ci95", "gain_ci95"):
        assert np.shape(record[column]) == (3, 2)
    rows = record["per_task"]
    assert [set(row) for row in rows] == [PER_TASK] * 5
    assert all(list(row["params"]) == list(parameters(family)) for row in rows)
    np.testing.assert_allclose(record["return_mean"], np.mean([r["returns"] for r in rows], axis=0))


def test_a_family_without_an_oracle_has_none_in_its_record():
    result = evaluate(new_agent(small("walk"), Walk()), Walk(), tasks=2, episodes=2, steps=0)
    assert result.to_json("maml", 0)["oracle_mean"] is None


def result_of(returns):
    return Evaluation(
        "walk",
        "test",
        0,
        2,
        [{}] * len(returns),
        np.array(returns),
        np.zeros((len(returns), 2)),
        None,
    )


def test_the_interval_of_the_gain_is_paired_by_task():
    """Tasks differ a thousand times more than each of them gains."""
    result = result_of([[1000.0 * n, 1000.0 * n + 1.0, 1000.0 * n + n % 2] for n in range(20)])
    np.testing.assert_array_equal(result.gain_ci95[:2], [[0.0, 0.0], [1.0, 1.0]])
    assert result.gain_ci95[2, 0] > 0.0
    assert result.gain_ci95[2, 1] < 1.0
    assert (result.ci95[:, 1] - result.ci95[:, 0] > 1000.0).all()


def evaluated(length, tasks, episodes=5, seed=0):
    """An evaluation of walks of so many steps."""
    family = Walk(length=length)
    return evaluate(new_agent(small("walk"), family), family, "test", tasks, episodes, 1, seed)


def test_few_tasks_are_judged_over_episodes_and_say_so():
    """Walks of 1 and of 5 steps differ far more than the walks of either."""
    result = evaluated(Choice((1.0, 5.0)), 40)
    assert result.intervals == "this run, over episodes of its 2 tasks"
    assert result.to_json("maml", 0)["intervals"] == result.intervals
    sample = dataclasses.replace(result, few_tasks=False)
    assert sample.intervals == "this run, over tasks"
    assert (np.ptp(result.ci95, axis=1) < 0.7 * np.ptp(sample.ci95, axis=1)).all()


def test_a_task_that_is_met_once_has_the_interval_of_its_episodes():
    result = evaluated(Choice((1.0, 5.0)), 2, seed=4)
    assert len({p["length"] for p in result.params}) == 2
    half = stats.t.ppf(0.975, 4) * np.linalg.norm(result.standard_error, axis=0) / 2
    np.testing.assert_allclose(result.ci95[:, 1] - result.mean, half)
    gain = np.hypot(*half)
    np.testing.assert_allclose(np.ptp(result.gain_ci95, axis=1), [0.0, 2 * gain])


def test_the_standard_error_is_that_of_the_mean_over_episodes():
    """Ten times as many episodes have a tenth of its square."""
    few, many = (evaluated(Choice((5.0,)), 30, episodes=n).standard_error for n in (10, 100))
    np.testing.assert_allclose((few**2).mean() / (many**2).mean(), 10.0, rtol=0.3)


def test_few_are_the_tasks_of_the_split_not_those_that_are_drawn():
    held_out = Walk(length=Choice(tuple(range(1, 9)), held_out=(7.0, 8.0)))
    assert few_tasks(held_out, "test")
    assert not few_tasks(held_out, "train")
    assert not few_tasks(Walk(length=Range(1, 5)), "test")
    assert not few_tasks(make_family("forager"), "test")
    assert few_tasks(make_family("half-cheetah-dir"), "test")


def test_an_evaluation_of_one_episode_has_no_interval_over_episodes():
    assert evaluated(Choice((1.0, 5.0)), 40, episodes=1).standard_error is None


def test_near_a_ceiling_the_range_of_all_returns_says_how_deep_a_failure_may_be():
    """Forty tasks at 0, where standing still got -35."""
    before = np.linspace(-40.0, -30.0, 40)
    result = result_of(np.stack((before, np.zeros(40)), axis=1).tolist())
    assert result.bounds == (-40.0, 0.0)
    low, high = result.ci95[1]
    assert low == pytest.approx(-40 * (1 - 0.025 ** (1 / 40)), rel=0.1)
    assert high == 0.0
