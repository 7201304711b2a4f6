"""Means, intervals and the record of an evaluation are what their names say."""

import json

import numpy as np
import pytest
from agents_reference import Walk
from reference import TENSOR
from small import small

from envs import make_family, parameters
from metarl.evaluation import Evaluation, evaluate
from metarl.meta_training import new_agent

FIELDS = {
    "success", "step_name", "adaptation_env_steps",
    "family", "algo", "split", "seed", "tasks", "episodes", "env_steps_trained", "steps",
    "return_mean", "return_ci95", "return_iqm", "gain_ci95", "oracle_mean", "per_task",
}  # fmt: skip
PER_TASK = {"params", "returns", "env_steps", "oracle", "success"}


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
    assert [set(row) for row in rows] == [
        {"params", "returns", "env_steps", "oracle", "success"}
    ] * 5
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
