"""The picture of `evaluate --baselines`."""

import numpy as np
import pytest

from metarl.baselines.baselines import Baseline
from metarl.baselines.budget_curve import budget_curve
from metarl.baselines.verdict import Scale


def row(spent, **chosen):
    returns = np.linspace(0, 1, 10)[:, None] + np.arange(len(spent))
    return Baseline(returns, np.tile(np.array(spent, float), (10, 1)), chosen)


ALIKE = {
    "agent": row([0, 100, 200]),
    "told the task": row([0]),
    "recurrent PPO": row([0, 15, 15], remembered_episodes=[0, 3, 3]),  # of 5 steps, as the others
    "of trials of one episode": row([0, 0, 0], remembered_episodes=[0, 0, 0]),
}


@pytest.mark.parametrize(("other", "panels"), [([0, 100, 200], 1), ([0, 70, 150], 2)])
def test_two_panels_only_where_they_differ(other, panels):
    figure = budget_curve({**ALIKE, "PPO": row(other)}, 20, Scale(0.0, 3.0), "t")
    assert len(figure.axes) == panels
    assert figure.get_size_inches()[0] == pytest.approx(4.8 * panels + 1.6)
