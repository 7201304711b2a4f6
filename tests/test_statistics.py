"""Interquartile means, intervals and probabilities of improvement against their definitions."""

import itertools
import time

import numpy as np
import pytest

from metarl.statistics import interval, iqm, iqm_interval, probability_of_improvement

# What rliable 1.2.0 gives for these two tables, of three runs and of two on five tasks.
X = np.array([[1, 5, 2, 8, 3], [4, 4, 0, 9, 3], [2, 7, 1, 6, 5]], dtype=float)
Y = np.array([[2, 5, 1, 7, 9], [0, 6, 1, 8, 3]], dtype=float)
IQM_X, IQM_Y, X_BEATS_Y = 3.7777777777777777, 4.0, 0.5166666666666667
TAILS = [2.5, 97.5]


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
    assert iqm_interval(wild)[1] < 39.0


def test_the_probability_of_improvement_is_that_of_rliable():
    assert probability_of_improvement(X, Y)[0] == pytest.approx(X_BEATS_Y)
    assert probability_of_improvement(Y, X)[0] == pytest.approx(1 - X_BEATS_Y)


def test_the_probability_of_improvement_compares_within_a_task():
    """Tasks differ more than agents: across tasks the better one would win 6 of 9 times."""
    y = np.array([0.0, 100.0, 200.0])
    assert probability_of_improvement(y + 1.0, y) == (1.0, 1.0, 1.0)
    assert probability_of_improvement(y, y) == (0.5, 0.5, 0.5)


def test_returns_on_other_tasks_are_not_compared():
    with pytest.raises(ValueError, match="3 tasks beside 1: give the same"):
        probability_of_improvement(np.zeros(3), np.zeros(1))


def test_the_interval_is_that_of_means_of_tasks_drawn_with_replacement():
    x = np.array([0.0, 0.0, 0.0, 8.0])  # a mean is 0, 2, 4, 6 or 8: binomial with p = 1/4
    assert interval(x) == (0.0, 6.0)


def every_draw(*sizes):
    """All ways to draw as many with replacement as there are, from each axis."""
    return itertools.product(*(map(list, itertools.product(range(n), repeat=n)) for n in sizes))


@pytest.mark.parametrize(("statistic", "of"), [(interval, np.mean), (iqm_interval, iqm)])
def test_a_draw_takes_whole_runs_and_whole_tasks(statistic, of):
    """Enumerated; runs drawn anew for each task would give a narrower interval."""
    x = X[:, :4] + np.array([[0.0], [10.0], [40.0]])
    exact = [of(x[np.ix_(runs, tasks)]) for runs, tasks in every_draw(3, 4)]
    np.testing.assert_allclose(statistic(x, draws=40_000), np.percentile(exact, TAILS), rtol=0.02)


def test_the_probability_of_improvement_draws_runs_of_both_and_tasks():
    wins = np.heaviside(X[:, None, :4] - Y[None, :, :4], 0.5)
    exact = [wins[np.ix_(*index)].mean() for index in every_draw(3, 2, 4)]
    got = probability_of_improvement(X[:, :4], Y[:, :4], draws=40_000)
    np.testing.assert_allclose(got, [wins.mean(), *np.percentile(exact, TAILS)], atol=0.02)


def test_the_interval_holds_the_true_mean_as_often_as_it_says():
    x = np.random.default_rng(0).normal(3.0, 2.0, (300, 40))
    inside = [low <= 3.0 <= high for low, high in (interval(row, draws=1000) for row in x)]
    assert 0.91 < np.mean(inside) < 0.97  # 94.4 % of intervals this short of normal's are right


def test_the_interval_holds_the_true_mean_where_runs_differ_more_than_tasks():
    rng = np.random.default_rng(0)
    x = rng.normal(0.0, 1.0, (200, 20, 20)) + rng.normal(0.0, 3.0, (200, 20, 1))
    inside = [low <= 0.0 <= high for low, high in (interval(one, draws=500) for one in x)]
    assert 0.88 < np.mean(inside) < 0.98


def test_the_interval_is_as_wide_as_the_normal_one():
    x = np.random.default_rng(1).normal(-5.0, 3.0, (50, 200))
    low, high = np.array([interval(row, draws=4000) for row in x]).T
    normal = 1.96 * x.std(axis=1) / 200**0.5
    np.testing.assert_allclose((high - low).mean(), 2 * normal.mean(), rtol=0.01)
    np.testing.assert_allclose(low, x.mean(axis=1) - normal, atol=0.04)
    np.testing.assert_allclose(high, x.mean(axis=1) + normal, atol=0.04)


@pytest.mark.parametrize("statistic", [interval, iqm_interval])
def test_equal_or_single_values_have_an_interval_without_width(statistic):
    assert statistic(np.full((3, 7), 2.5)) == (2.5, 2.5)
    assert statistic(np.array([-4.0])) == statistic(np.array([[-4.0]])) == (-4.0, -4.0)


def test_one_run_has_the_interval_of_its_tasks():
    assert interval(X[:1]) == interval(X[0])
    assert iqm_interval(X[:1]) == iqm_interval(X[0])


def test_the_same_seed_gives_the_same_interval():
    x = np.random.default_rng(0).normal(size=(3, 40))
    assert interval(x, seed=1) == interval(x, seed=1) != interval(x, seed=2)


def test_five_runs_of_400_tasks_take_less_than_ten_seconds():
    x = np.random.default_rng(0).normal(size=(5, 400))
    began = time.perf_counter()
    iqm_interval(x)
    assert time.perf_counter() - began < 10
