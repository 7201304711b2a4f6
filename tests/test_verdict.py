"""Whether an agent adapts, in words."""

import numpy as np

from metarl.baselines.baselines import Baseline
from metarl.baselines.verdict import Scale, verdict
from metarl.evaluation.evaluate import Evaluation

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
        "adapts: +8.00 [8.00, 8.00] over its start (this run, over tasks); 80% of the oracle; "
        "the best baseline, PPO, reaches 40% (the agent is above: +4.00 [4.00, 4.00])."
    )


def test_the_best_alternative_counts_not_the_one_that_was_meant_to_be():
    others = {"multi-task PPO": baseline(4.0), "PPO from scratch": baseline(9.0)}
    for order in (others, dict(reversed(others.items()))):
        said = verdict(result(0.0, 8.0), order, None)
        assert (
            "the best baseline, PPO from scratch, reaches 9.00 (the agent is below: -1.00 [" in said
        )
        assert "multi-task" not in said


def test_no_evidence_is_no_verdict():
    returns = np.stack((np.zeros(21), 10 * TASKS + 0.5), axis=1)
    noisy = Evaluation("walk", "test", 0, 5, [{}] * 21, returns, np.zeros((21, 2)), None)
    said = verdict(noisy, {"PPO": baseline(0.0)}, None)
    low, high = noisy.gain_ci95[1]
    assert low < 0 < high
    assert said.startswith(f"no significant gain: +0.50 [{low:.2f}, {high:.2f}]")
    assert "(no significant difference: +0.50 [" in said


def test_a_good_agent_that_gains_nothing_has_no_significant_gain():
    said = verdict(result(9.0, 9.0), {}, Scale(random=0.0, oracle=10.0))
    assert said.startswith("no significant gain: +0.00")


def test_an_agent_that_gets_worse_is_told_so():
    assert verdict(result(9.0, 7.0), {}, None).startswith("adaptation harms: -2.00 [-2.00, -2.00]")


def test_one_that_a_plain_alternative_beats_is_told_so():
    said = verdict(result(0.0, 2.0), {"PPO": baseline(4.0)}, None)
    assert "reaches 4.00 (the agent is below: -2.00 [-2.00, -2.00])" in said


def test_two_tasks_are_judged_over_episodes_in_words():
    """The tasks gain 10 and 0, which for a sample of tasks would be no evidence."""
    noise = np.tile([-0.1, 0.0, 0.1], 8)
    task = np.repeat([0.0, 1.0], 12)
    returns = np.stack((noise, noise[::-1] + 10 * task), axis=1)
    params = [{"direction": value} for value in task]
    two = Evaluation("turn", "test", 0, 5, params, returns, 0 * returns, None, few_tasks=True)
    low, high = two.gain_ci95[1]
    assert high - low < 0.4
    assert "[4.9" in verdict(two, {}, None)
    assert "(this run, over episodes of its 2 tasks)" in verdict(two, {}, None)
