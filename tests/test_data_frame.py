"""An evaluation as a data frame."""

import sys

import numpy as np
import pytest

from metarl import UsageError
from metarl.evaluation.evaluate import Evaluation

PARAMS = [
    {"gravity": 1.0, "step": 5.0},
    {"gravity": 2.0, "step": 6.0},
    {"gravity": 3.0, "step": 7.0},
]
RETURNS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
SPENT = np.array([[0.0, 10.0], [0.0, 20.0], [0.0, 30.0]])


def evaluation(**more):
    given = {"oracle": None, **more}
    return Evaluation("f", "test", 0, 20, PARAMS, RETURNS, SPENT, **given)


def test_a_row_is_a_task_after_a_step():
    pytest.importorskip("pandas")
    success = RETURNS / 10
    frame = evaluation(oracle=np.array([7.0, 8.0, 9.0]), success=success).to_dataframe()
    names = [
        "task",
        "step",
        "gravity",
        "parameter step",
        "return",
        "env_steps",
        "success",
        "oracle",
    ]
    assert list(frame.columns) == names
    assert len(frame) == 6
    row = frame[(frame.task == 1) & (frame.step == 1)].iloc[0]
    assert row.tolist() == [1, 1, 2.0, 6.0, 4.0, 20.0, 0.4, 8.0]
    for step in (0, 1):
        assert frame[frame.step == step]["return"].tolist() == RETURNS[:, step].tolist()
    assert frame.groupby("step")["return"].mean().tolist() == evaluation().mean.tolist()


def test_what_is_not_known_is_no_number():
    pytest.importorskip("pandas")
    frame = evaluation().to_dataframe()
    assert frame[["success", "oracle"]].isna().all(axis=None)
    assert not frame.drop(columns=["success", "oracle"]).isna().any(axis=None)


def test_without_pandas_it_says_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r'needs pandas, .*pip install "metarl-toolkit\[pandas\]"'):
        evaluation().to_dataframe()
