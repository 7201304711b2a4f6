"""Rules of the Bernoulli bandit against their definitions, the best possible, and RL²'s table."""

import math
from functools import cache, partial

import pytest
import torch
from reference import draw
from torch.testing import assert_close

from metarl.agents.classical.bandits import (
    RULES,
    Counts,
    epsilon_greedy,
    gittins,
    gittins_index,
    greedy,
    optimistic_thompson,
    play,
    sample,
    thompson,
    ucb1,
)
from metarl.agents.classical.scores import comparators
from metarl.envs import UsageError
from metarl.envs.bandits.bandit import Bandit


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def some_counts(arms=4, most=9, trials=100):
    """Of 5 tasks; many arms are untried, and many equal."""
    won, lost = torch.randint(most, (2, 5, trials, arms), generator=seeded()).clamp(min=2) - 2.0
    return Counts(won, lost, time=20, pulls=40)


def one(won, lost, copies=1):
    """The same counts for `copies` trials of one task."""
    counts = torch.tensor([won, lost], dtype=torch.float32).view(2, 1, 1, -1)
    return Counts(*counts.expand(2, 1, copies, -1), time=int(counts.sum()), pulls=40)


def first_best(score):
    return max(range(len(score)), key=lambda arm: score[arm])


def mean_by_definition(won, lost):
    return (1 + won) / (2 + won + lost)


def ucb_by_definition(won, lost):
    tries = 2 + won + lost
    return mean_by_definition(won, lost) + 0.2 * math.sqrt(2 * math.log(21) / tries)


@cache
def index_by_restart(won, lost, gamma, depth=60):
    """Gittins index: (1 - gamma) x the value of an arm that may start afresh at any pull.

    Katehakis and Veinott 1987. One starts afresh at no cost in time, so the fresh value is a fixed
    point, found here by bisection; `depth` pulls ahead an arm is taken for known.
    """
    low, high = 0.0, 1 / (1 - gamma)
    for _ in range(24):
        fresh = (low + high) / 2
        value = [max(mean_by_definition(won + w, lost + depth - w) / (1 - gamma), fresh)
                 for w in range(depth + 1)]  # fmt: skip
        for made in reversed(range(depth)):
            p = [mean_by_definition(won + w, lost + made - w) for w in range(made + 1)]
            go = [q * (1 + gamma * value[w + 1]) + (1 - q) * gamma * value[w]
                  for w, q in enumerate(p)]  # fmt: skip
            value = go if made == 0 else [max(x, fresh) for x in go]
        low, high = (fresh, high) if value[0] > fresh else (low, fresh)
    return (1 - gamma) * (low + high) / 2


SCORES = {
    "greedy": (greedy, mean_by_definition),
    "ucb1": (ucb1, ucb_by_definition),
    "gittins": (partial(gittins, gamma=0.8), lambda w, l: index_by_restart(w, l, 0.8, 30)),  # noqa: E741
}


@pytest.mark.parametrize("name", SCORES)
def test_the_arm_of_the_highest_score_by_definition_and_the_first_of_equals(name):
    rule, score = SCORES[name]
    counts = some_counts()
    chosen = rule(counts, None)
    for n in range(5):
        for b in range(100):
            each = zip(counts.won[n, b].tolist(), counts.lost[n, b].tolist(), strict=True)
            assert chosen[n, b] == first_best([round(score(w, k), 4) for w, k in each]), (n, b)
    assert len(chosen.unique()) == 4


def test_gittins_without_a_discount_counts_as_many_pulls_as_the_trial_has():
    counts = some_counts(trials=2000)._replace(pulls=15)
    chosen = gittins(counts, None)
    assert torch.equal(chosen, gittins(counts, None, gamma=1 - 1 / 15))
    for other in (12, 19):
        assert not torch.equal(chosen, gittins(counts, None, gamma=1 - 1 / other))


@pytest.mark.parametrize("gamma", [0.5, 0.8, 0.9])
def test_gittins_index_by_calibration_is_that_by_restarting(gamma):
    index = gittins_index(8, gamma)
    for won, lost in ((0, 0), (1, 0), (0, 1), (2, 3), (0, 7), (7, 0), (1, 5)):
        assert_close(index[won, lost].item(), index_by_restart(won, lost, gamma), rtol=0, atol=2e-4)


def test_gittins_index_has_its_published_values():
    """To four places, as Gittins and others tabulate them."""
    index = gittins_index(12, 0.9)
    published = {(0, 0): 0.7029, (1, 1): 0.6346, (2, 2): 0.6010, (9, 1): 0.8695}
    for (won, lost), value in published.items():
        assert_close(index[won, lost].item(), value, rtol=0, atol=1e-4)
    assert_close(gittins_index(12, 0.99)[0, 0].item(), 0.8699, rtol=0, atol=1e-4)


def test_draws_are_from_each_arms_own_beta():
    """Mean and variance of 40,000 draws for each of three arms."""
    won, lost = (0.0, 5.0, 2.0), (0.0, 1.0, 9.0)
    rate = sample(one(won, lost, copies=200), seeded(), samples=200).flatten(0, 2)
    for arm, (a, b) in enumerate(((1, 1), (6, 2), (3, 10))):
        assert_close(rate[:, arm].mean().item(), a / (a + b), rtol=0, atol=0.006)
        want = a * b / ((a + b) ** 2 * (a + b + 1))
        assert_close(rate[:, arm].var().item(), want, rtol=0.03, atol=0)


def test_thompson_pulls_an_arm_as_often_as_it_is_believed_to_be_the_best():
    """Beta(2, 1) beats Beta(1, 1) with probability 2/3: the integral of 2 x * x."""
    arm = thompson(one((0.0, 1.0), (0.0, 0.0), copies=20_000), seeded())
    assert_close(arm.double().mean().item(), 2 / 3, rtol=0, atol=0.013)


def test_optimistic_thompson_follows_the_likeliest_world_of_its_draws():
    counts = some_counts(trials=7)
    chosen = optimistic_thompson(counts, seeded(), samples=6)
    worlds = sample(counts, seeded(), samples=6).tolist()
    for n in range(5):
        for b in range(7):
            won, lost = counts.won[n, b].tolist(), counts.lost[n, b].tolist()
            likely = [
                math.prod(
                    p**w * (1 - p) ** k for p, w, k in zip(world[n][b], won, lost, strict=True)
                )
                for world in worlds
            ]
            assert chosen[n, b] == first_best(worlds[first_best(likely)][n][b])
    assert torch.equal(optimistic_thompson(counts, seeded(), 1), thompson(counts, seeded()))


def test_epsilon_greedy_pulls_any_arm_with_probability_epsilon():
    counts = one((0.0, 3.0, 0.0, 0.0), (1.0, 0.0, 1.0, 1.0), copies=40_000)
    share = epsilon_greedy(counts, seeded(), epsilon=0.4).flatten().bincount() / 40_000
    assert_close(share, torch.tensor([0.1, 0.7, 0.1, 0.1]), rtol=0, atol=0.008)


def test_random_pulls_every_arm_equally_often():
    share = RULES["random"](one((9.0, 0.0), (0.0, 9.0), 20_000), seeded()).flatten().bincount()
    assert_close(share / 20_000, torch.tensor([0.5, 0.5]), rtol=0, atol=0.014)


def test_a_trial_counts_all_its_episodes_and_no_other_trials():
    """Arms of certain pay, pulled by a rule that looks only at the clock and the trial."""
    family = Bandit(arms=3, horizon=4)
    task = family.task_type(*torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]).unsqueeze(-1))
    seen = []

    def by_the_clock(counts, gen):
        seen.append(counts)
        return (torch.arange(5) + counts.time).expand(2, 5) % 3

    total = play(family, task, by_the_clock, episodes=2, trials=5)
    assert [(c.time, c.pulls) for c in seen] == [(t, 8) for t in range(8)]
    for c in seen:
        for b in range(5):
            pulls = [sum((b + t) % 3 == arm for t in range(c.time)) for arm in range(3)]
            assert c.won[:, b].tolist() == [[pulls[0], 0, 0], [0, 0, pulls[2]]]
            assert c.lost[:, b].tolist() == [[0, pulls[1], pulls[2]], [pulls[0], pulls[1], 0]]
    assert total.tolist() == [
        [sum((b + t) % 3 == arm for t in range(8)) for b in range(5)] for arm in (0, 2)
    ]


def test_luck_is_new_in_each_episode():
    """Totals of 50 pulls spread as a binomial's; the same luck again would spread 50 times more."""
    family = Bandit(arms=2, horizon=1)
    task = family.task_type(*torch.full((2, 1, 1), 0.5))
    total = play(family, task, RULES["random"], episodes=50, trials=4000, gen=seeded())
    assert_close(total.var().item(), 12.5, rtol=0.1, atol=0)


def test_a_gaussian_bandit_is_refused():
    family = Bandit(gaussian=True)
    with pytest.raises(UsageError, match="need rewards of 0 or 1: leave it out"):
        play(family, draw(family), greedy, 1, 1)
    assert comparators(family, draw(family), 1, 1) == {}


# The best possible, by dynamic programming over everything that can be known of two arms.

PULLS = 9


def optimal(won_0, lost_0, won_1, lost_1, left):
    """Most that can be expected of `left` more pulls, and of pulling either arm now."""
    return _optimal(won_0, lost_0, won_1, lost_1, left, None)


@cache
def _optimal(won_0, lost_0, won_1, lost_1, left, rule):
    """With a rule: what it can expect."""
    if left == 0:
        return 0.0
    p, q = mean_by_definition(won_0, lost_0), mean_by_definition(won_1, lost_1)
    go = partial(_optimal, left=left - 1, rule=rule)
    values = (
        p * (1 + go(won_0 + 1, lost_0, won_1, lost_1))
        + (1 - p) * go(won_0, lost_0 + 1, won_1, lost_1),
        q * (1 + go(won_0, lost_0, won_1 + 1, lost_1))
        + (1 - q) * go(won_0, lost_0, won_1, lost_1 + 1),
    )
    if rule is None:
        return max(values)
    counts = one((won_0, won_1), (lost_0, lost_1))._replace(time=PULLS - left, pulls=PULLS)
    return values[rule(counts, None)]


def test_the_best_possible_of_two_pulls_is_thirteen_twelfths():
    """Stay after a win, 2/3, and leave after a loss, 1/2."""
    assert optimal(0, 0, 0, 0, 2) == pytest.approx(1 / 2 + 1 / 2 * (2 / 3 + 1 / 2))


@pytest.mark.parametrize("name", ["gittins", "ucb1", "greedy"])
def test_no_rule_beats_the_best_possible_and_gittins_comes_within_half_a_percent(name):
    """Exactly, over all that can happen in 9 pulls of two arms."""
    most, value = optimal(0, 0, 0, 0, PULLS), _optimal(0, 0, 0, 0, PULLS, RULES[name])
    assert PULLS / 2 < value <= most + 1e-9
    if name == "gittins":
        assert value > 0.995 * most


@pytest.mark.parametrize("name", RULES)
def test_trials_played_get_what_the_rule_can_expect(name):
    """Within four standard errors; of those that draw, that they don't beat the best possible."""
    family = Bandit(arms=2, horizon=PULLS)
    total = play(family, draw(family, 8000), RULES[name], 1, 1, seeded(1))
    error = total.std().item() / math.sqrt(8000)
    if name in ("gittins", "ucb1", "greedy"):
        value = _optimal(0, 0, 0, 0, PULLS, RULES[name])
        assert_close(total.mean().item(), value, rtol=0, atol=4 * error)
    else:
        assert total.mean().item() < optimal(0, 0, 0, 0, PULLS) + 4 * error


# Duan et al. 2016 (arXiv:1611.02779), table 1: pulls, arms, and what each rule gets.
PUBLISHED = {
    (10, 5): (5.0, 6.6, 5.7, 6.5, 6.7, 6.6, 6.6),
    (10, 10): (5.0, 6.6, 5.5, 6.2, 6.7, 6.6, 6.6),
    (10, 50): (5.1, 6.5, 5.2, 5.5, 6.6, 6.5, 6.5),
    (100, 5): (49.9, 78.3, 74.7, 77.9, 78.0, 75.4, 74.8),
    (100, 10): (49.9, 82.8, 76.7, 81.4, 82.4, 77.4, 77.1),
    (100, 50): (49.8, 85.2, 64.5, 67.7, 84.3, 78.3, 78.0),
}
TOLERANCE = {10: 0.1, 100: 1.0}  # between numbers rounded to a tenth, as the table's are
# Left out as slow; 2,000 trials gave 81.2 and 67.7.
SLOW = [("optimistic-thompson", (100, 10)), ("optimistic-thompson", (100, 50))]
CELLS = [(name, setting) for setting in PUBLISHED for name in RULES if (name, setting) not in SLOW]


@pytest.mark.parametrize(("name", "setting"), CELLS)
def test_published_rows(name, setting):
    pulls, arms = setting
    rule = RULES[name]
    if (name, setting) == ("gittins", (10, 50)):
        rule = partial(gittins, gamma=0.99)  # the docstring says why: our own gets 0.2 more
    tasks = 4000 if arms == 50 else 10_000
    if "thompson" in name:  # draws take time
        tasks = 2000 if pulls == 100 else 4000
    family = Bandit(arms=arms, horizon=pulls)
    total = play(family, draw(family, tasks, seed=3), rule, 1, 1, seeded(4))
    published = dict(zip(RULES, PUBLISHED[setting], strict=True))[name]
    got = round(total.mean().item(), 1)
    assert abs(got - published) < TOLERANCE[pulls] + 1e-6, (got, published)


def test_comparators_are_the_mean_totals_of_whole_trials():
    family = Bandit(arms=3, horizon=2)
    task = draw(family, 400)
    rows = comparators(family, task, episodes_in_trial=5, trials=2, gen=seeded())
    assert list(rows) == list(RULES)
    gen = seeded()
    again = {k: play(family, task, rule, 5, 2, gen).mean().item() for k, rule in RULES.items()}
    assert rows == again
    assert rows["gittins"] > 5.8 > 5.3 > rows["random"]
    assert len(set(rows.values())) == 7
