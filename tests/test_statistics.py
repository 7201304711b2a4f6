"""Interquartile means, intervals and probabilities of improvement against their definitions."""

import time

import numpy as np
import pytest
from scipy import stats

from metarl.evaluation.statistics import (
    difference_interval,
    interval,
    iqm,
    iqm_interval,
    probability_of_improvement,
)

# What rliable 1.2.0 gives for these two tables, of three runs and of two on five tasks.
X = np.array([[1, 5, 2, 8, 3], [4, 4, 0, 9, 3], [2, 7, 1, 6, 5]], dtype=float)
Y = np.array([[2, 5, 1, 7, 9], [0, 6, 1, 8, 3]], dtype=float)
IQM_X, IQM_Y, X_BEATS_Y = 3.7777777777777777, 4.0, 0.5166666666666667


def test_the_interquartile_mean_is_that_of_rliable():
    np.testing.assert_allclose([iqm(X), iqm(Y)], [IQM_X, IQM_Y])


@pytest.mark.parametrize("n", range(1, 14))
def test_the_interquartile_mean_is_that_of_the_middle(n):
    """Whole values only are cut: one in four, rounded down, at each end."""
    x = np.random.default_rng(n).permutation(np.arange(n) ** 3.0)
    np.testing.assert_allclose(iqm(x), np.mean(sorted(x)[n // 4 : n - n // 4]))


def test_the_interquartile_mean_and_its_interval_ignore_outliers():
    x = np.arange(40.0).reshape(2, 20)
    wild = np.where(x == 39.0, 1e9, x)
    assert iqm(x) == iqm(wild) == 19.5
    np.testing.assert_allclose(iqm_interval(wild), iqm_interval(x))


def test_the_probability_of_improvement_is_that_of_rliable():
    assert probability_of_improvement(X, Y)[0] == pytest.approx(X_BEATS_Y)
    assert probability_of_improvement(Y, X)[0] == pytest.approx(1 - X_BEATS_Y)


def test_the_probability_of_improvement_compares_within_a_task():
    """Tasks differ more than agents: across tasks the better one would win 6 of 9 times."""
    y = np.array([0.0, 100.0, 200.0])
    p, low, high = probability_of_improvement(y + 1.0, y)
    assert (p, high) == (1.0, 1.0)
    assert low == pytest.approx(0.025 ** (1 / 3), abs=0.02)  # three wins of three say no more
    assert probability_of_improvement(y, y)[0] == 0.5


def test_returns_on_other_tasks_are_not_compared():
    with pytest.raises(ValueError, match="3 tasks against 1: give the same"):
        probability_of_improvement(np.zeros(3), np.zeros(1))


def reach(x):
    """Of Student's interval, scipy's own."""
    low, high = stats.t.interval(0.95, len(x) - 1, x.mean(), stats.sem(x))
    return (high - low) / 2


def test_the_interval_of_a_symmetric_sample_is_student_s():
    x = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    np.testing.assert_allclose(interval(x), 3.0 + reach(x) * np.array([-1, 1]))


def test_the_interval_of_a_skewed_sample_reaches_to_the_long_tail():
    x = np.random.default_rng(0).exponential(size=40)
    low, high = interval(x)
    assert x.mean() - low == pytest.approx(reach(x))
    assert high - x.mean() > 1.1 * reach(x)


def test_seeds_and_tasks_add_in_quadrature():
    """Two runs that differ by 2 have a mean with one degree of freedom, whatever the tasks are."""
    tasks, seeds = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([[-1.0], [1.0]])
    both = np.hypot(reach(tasks), reach(seeds[:, 0]))
    np.testing.assert_allclose(interval(tasks + seeds), 3.0 + both * np.array([-1, 1]))


def test_near_a_ceiling_the_interval_of_a_share_is_clopper_and_pearson_s():
    """A share of successes lies between 0 and 1; the end away from the ceiling is the exact one."""
    for failures in (0, 1, 3):
        x = np.ones(40)
        x[:failures] = 0.0
        exact = stats.binomtest(40 - failures, 40).proportion_ci()
        assert interval(x)[0] == pytest.approx(exact.low, abs=0.01)
        assert exact.high <= interval(x)[1] + 0.01


def test_near_a_ceiling_the_interval_depends_on_how_low_a_return_may_be():
    x = np.full(40, 200.0)
    x[:2] = 150.0, 180.0
    deep, shallow = interval(x, (0.0, 200.0)), interval(x, (150.0, 200.0))
    assert deep[0] < shallow[0] < x.mean() - 2.0
    assert max(deep[1], shallow[1]) < 200.5
    assert interval(x) == deep  # 0 is what is taken where nothing is known


def test_a_gain_has_the_failures_that_the_returns_after_it_may_hide():
    before = np.random.default_rng(0).normal(20.0, 10.0, 40)
    after = np.full(40, 200.0)
    low, high = difference_interval(after, before, (0.0, 200.0))
    plain = interval(after - before)
    assert low < plain[0] - 5.0
    assert high == pytest.approx(plain[1])
    assert difference_interval(before, after, (0.0, 200.0)) == pytest.approx((-high, -low))


def test_of_given_tasks_the_interval_is_over_episodes():
    """Tasks differ by 1000, the draws of each by 2, and each is half of the mean."""
    draws, task = np.array([1.0, 2.0, 3.0, 1001.0, 1002.0, 1003.0]), np.repeat([0, 1], 3)
    half = np.hypot(reach(draws[:3]) / 2, reach(draws[3:]) / 2)
    np.testing.assert_allclose(interval(draws, task=task), 502.0 + half * np.array([-1, 1]))
    once = interval(draws[2:4], task=task[2:4], over_episodes=np.array([3.0, 4.0]))
    np.testing.assert_allclose(once, (502.0 - 2.5, 502.0 + 2.5))


def test_of_given_tasks_runs_are_the_only_sample():
    x = np.array([[1.0, 1000.0], [2.0, 1001.0], [3.0, 1002.0]])
    means = x.mean(axis=1)
    expected = means.mean() + reach(means) * np.array([-1, 1])
    np.testing.assert_allclose(interval(x, task=np.arange(2)), expected)


def test_three_seeds_that_all_win_may_have_had_chance_on_their_side():
    """One in ten times three of one algorithm are all better than three others of it."""
    p, low, high = probability_of_improvement(np.ones((3, 40)), np.zeros((3, 40)))
    assert (p, high) == (1.0, 1.0)
    assert low < 0.5
    assert probability_of_improvement(np.ones((5, 40)), np.zeros((5, 40)))[1] > 0.5


def test_the_interval_of_normal_returns_is_hardly_wider_than_student_s():
    x = np.random.default_rng(1).normal(-5.0, 3.0, (200, 40))
    width = np.mean([high - low for low, high in map(interval, x)])
    assert width < 1.1 * np.mean([2 * reach(row) for row in x])


def test_a_single_value_has_an_interval_without_width():
    for statistic in (interval, iqm_interval):
        assert statistic(np.array([-4.0])) == statistic(np.array([[-4.0]])) == (-4.0, -4.0)


def test_equal_values_have_an_interquartile_mean_without_doubt():
    """Less than a quarter of the tasks fails, or one of forty would have shown."""
    assert iqm_interval(np.full((3, 40), 2.5)) == (2.5, 2.5)


def test_one_run_has_the_interval_of_its_tasks():
    assert interval(X[:1]) == interval(X[0])
    assert iqm_interval(X[:1]) == iqm_interval(X[0])


def test_five_runs_of_ten_thousand_tasks_take_less_than_ten_seconds():
    x = np.random.default_rng(0).normal(size=(5, 10_000))
    began = time.perf_counter()
    iqm_interval(x)
    interval(np.ones_like(x))
    assert time.perf_counter() - began < 10
