"""Whether an agent adapts, in words."""

import numpy as np

from metarl.baselines import Baseline
from metarl.evaluation import Evaluation
from metarl.verdict import Scale, verdict

TASKS = np.linspace(-1, 1, 21)


def result(before, after):
    """Each task gets the same from adapting, around means that differ."""
    returns = np.stack((before + TASKS, after + TASKS), axis=1)
    return Evaluation("walk", "test", 0, 5, [{}] * 21, returns, np.zeros((21, 2)), None)


def baseline(after):
    returns = np.stack((TASKS, after + TASKS), axis=1)
    return Baseline(returns, np.zeros((21, 2)))


def test_an_agent_that_gains_adapts():
    said = verdict(result(0.0, 8.0), {"PPO": baseline(4.0)}, Scale(random=0.0, oracle=10.0))
    assert said == (
        "adapts: +8.00 [8.00, 8.00] over its start; 80% of the oracle; "
        "PPO reaches 40% (the agent is above: +4.00 [4.00, 4.00])."
    )


def test_one_that_gains_nothing_does_not_however_good_it_is():
    said = verdict(result(9.0, 9.0), {"PPO": baseline(9.0)}, Scale(random=0.0, oracle=10.0))
    assert said.startswith("does not adapt: +0.00")
    assert "(level: +0.00" in said


def test_one_that_a_plain_alternative_beats_is_told_so():
    said = verdict(result(0.0, 2.0), {"PPO": baseline(4.0)}, None)
    assert "PPO reaches 4.00 (the agent is below: -2.00 [-2.00, -2.00])" in said


def test_an_interval_that_holds_nothing_is_no_adaptation():
    returns = np.stack((np.zeros(21), 10 * TASKS + 0.5), axis=1)
    noisy = Evaluation("walk", "test", 0, 5, [{}] * 21, returns, np.zeros((21, 2)), None)
    assert verdict(noisy, {}, None).startswith("does not adapt: +0.50 [")
