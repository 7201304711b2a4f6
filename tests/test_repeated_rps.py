"""Repeated rock-paper-scissors against its definition, and the anchors in its docstring."""

from itertools import product

import pytest
import torch
from reference import draw, play, random_acts
from torch.testing import assert_close

from metarl.envs import make_task
from metarl.envs.games.repeated_rps import RepeatedRPS

FAMILY = RepeatedRPS()
ROCK, PAPER, SCISSORS = range(3)
BEATS = {PAPER: ROCK, SCISSORS: PAPER, ROCK: SCISSORS}
BEATEN_BY = {loser: winner for winner, loser in BEATS.items()}
PAY = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])  # agent's rows


def ending(mine, its):
    """How a round ended for the opponent."""
    if mine == its:
        return "tie"
    return "win" if BEATS[its] == mine else "loss"


class MatchByDefinition:
    def __init__(self, **parameters):
        self.parameters, self.last = parameters, None

    def shifted(self, shift):
        its = self.last[1]
        return {0: its, 1: BEATEN_BY[its], 2: BEATS[its]}[shift]

    def step(self, move, luck):
        if self.last is None:
            its = ROCK if luck < 1 / 3 else PAPER if luck < 2 / 3 else SCISSORS
        else:
            after = ending(*self.last)
            habit, p = (self.parameters[f"{after}_{x}"] for x in ("habit", "strength"))
            order = [habit, (habit + 1) % 3, (habit + 2) % 3]
            its = self.shifted(order[(luck >= p) + (luck >= p + (1 - p) / 2)])
        self.last = (move, its)
        return {"tie": 0, "win": -1, "loss": 1}[ending(move, its)]

    def chances(self):
        """Probability of each of the opponent's next moves."""
        if self.last is None:
            return [1 / 3] * 3
        found, after = [0.0] * 3, ending(*self.last)
        for shift in range(3):
            p = self.parameters[f"{after}_strength"]
            likely = shift == self.parameters[f"{after}_habit"]
            found[self.shifted(shift)] = p if likely else (1 - p) / 2
        return found


def values(task, n):
    return {name: column[n].item() for name, column in task._asdict().items()}


def joint_chances(task):
    """(N, 10, 3) double: the opponent's next move after each joint move, the start last."""
    rows = []
    for n in range(len(task[0])):
        match, row = MatchByDefinition(**values(task, n)), []
        for last in (*product(range(3), repeat=2), None):
            match.last = last
            row.append(match.chances())
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def exact_return(chances, policy, rounds=FAMILY.horizon):
    """Expected return (..., N) of a policy (..., N, 10, 3) of the last joint move."""
    both = policy.unsqueeze(-1) * chances.unsqueeze(-2)  # (..., N, 10, agent's move, opponent's)
    value = torch.zeros(())
    for _ in range(rounds):
        worth = (both * (PAY.to(both.dtype) + value).unsqueeze(-3)).sum((-1, -2))
        value = worth[..., :9].unflatten(-1, (3, 3))
    return worth[..., 9]


def best_return(chances, rounds=FAMILY.horizon):
    """Expected return (N,) of the best policy that knows the opponent: backward induction."""
    value = torch.zeros(())
    for _ in range(rounds):
        each = PAY.double() + value
        best = torch.einsum("...ji,...ai->...ja", chances, each).amax(-1)
        value = best[..., :9].unflatten(-1, (3, 3))
    return best[..., 9]


def acts_of(actor, task):
    """An actor (state, task) as the policy (N, 10, 3), one-hot."""
    start = FAMILY.reset(task, torch.rand(len(task[0]), 10, 0))
    act = actor(start._replace(joint=torch.arange(10).expand(len(task[0]), 10)), task)
    return torch.nn.functional.one_hot(act, 3).double()


def every_opponent():
    """27 habits x 27 strengths, and weights of Gauss-Legendre: means over training are exact."""
    nodes, shares = (0.7 - 0.2 * 0.6**0.5, 0.7, 0.7 + 0.2 * 0.6**0.5), (5 / 18, 8 / 18, 5 / 18)
    habits = list(product((0.0, 1.0, 2.0), repeat=3))
    rows = [(*h, *s) for h in habits for s in product(nodes, repeat=3)]
    weights = [a * b * c / 27 for _ in habits for a, b, c in product(shares, repeat=3)]
    task = FAMILY.task_type(*torch.tensor(rows).T.unsqueeze(-1))
    return task, torch.tensor(weights, dtype=torch.float64)


@pytest.mark.parametrize("split", ["train", "extrapolate"])
def test_every_round_is_that_of_the_definition(split):
    task, gen = draw(FAMILY, 30, split), torch.Generator().manual_seed(0)
    state = FAMILY.reset(task, torch.rand(30, 4, 0))
    assert not FAMILY.observe(state).any()
    matches = [[MatchByDefinition(**values(task, n)) for _ in range(4)] for n in range(30)]
    total = torch.zeros(30, 4)
    for t, act in enumerate(random_acts(FAMILY, (FAMILY.horizon, 30, 4))):
        noise = torch.rand(30, 4, 1, generator=gen)
        state, rew, terminated = FAMILY.step(state, act, task, noise)
        seen, total = FAMILY.observe(state), total + rew
        assert not terminated.any()
        for n, b in product(range(30), range(4)):
            match = matches[n][b]
            assert rew[n, b].item() == match.step(int(act[n, b]), noise[n, b].item())
            assert seen[n, b].nonzero().flatten().tolist() == [3 * match.last[0] + match.last[1]]
        assert (state.played == t + 1).all()
        assert torch.equal(state.score, total)


def test_the_opponent_mixes_as_its_habits_say():
    """Over a fine grid of luck, after each joint move and at the start."""
    task, fine = draw(FAMILY, 5), 600
    joint = torch.arange(10).repeat_interleave(fine).expand(5, -1)
    noise = ((torch.arange(fine) + 0.5) / fine).repeat(10).expand(5, -1).unsqueeze(-1)
    state = FAMILY.reset(task, torch.rand(5, 10 * fine, 0))._replace(joint=joint)
    nxt, _, _ = FAMILY.step(state, torch.zeros_like(joint), task, noise)
    often = torch.nn.functional.one_hot(nxt.joint % 3, 3).double().view(5, 10, fine, 3).mean(2)
    assert_close(often, joint_chances(task), rtol=0, atol=2 / fine)


def test_greatest_luck_stays_among_the_three_moves():
    task = draw(FAMILY, 50, "extrapolate")
    luck = torch.tensor(1.0).nextafter(torch.tensor(0.0))
    state = FAMILY.reset(task, torch.rand(50, 1, 0))
    for _ in range(3):
        state, _, _ = FAMILY.step(
            state, torch.zeros(50, 1, dtype=torch.long), task, luck.expand(50, 1, 1)
        )
        assert ((state.joint >= 0) & (state.joint < 9)).all()


def test_beating_the_likeliest_move_is_the_best_of_all_policies():
    """Its exact return is that of backward induction over joint moves and rounds."""
    habits = product((0.0, 1.0, 2.0), repeat=3)
    rows = [(*h, *s) for h in habits for s in product((0.35, 0.6, 1.0), repeat=3)]
    task = FAMILY.task_type(*torch.tensor(rows).T.unsqueeze(-1))
    chances = joint_chances(task)
    for rounds in (1, 2, FAMILY.horizon):
        got = exact_return(chances, acts_of(FAMILY.oracle, task), rounds)
        assert_close(got, best_return(chances, rounds), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("p", [0.5, 0.7, 1.0])
def test_where_habits_are_equally_strong_the_best_is_a_closed_form(p):
    """Every round but the first then wins with p and ties or loses with half of what is left."""
    names = ("tie_strength", "win_strength", "loss_strength")
    task = make_task(FAMILY, win_habit=1.0, loss_habit=2.0, **dict.fromkeys(names, p))
    got = exact_return(joint_chances(task), acts_of(FAMILY.oracle, task))
    want = (FAMILY.horizon - 1) * (3 * p - 1) / 2
    assert_close(got.item(), want, rtol=0, atol=1e-5)


def test_oracle_gets_on_average_what_the_docstring_says():
    task, weights = every_opponent()
    assert_close((best_return(joint_chances(task)) @ weights).item(), 16.3, rtol=0, atol=0.05)
    _, rew, _ = play(FAMILY, draw(FAMILY, 400), FAMILY.oracle, episodes=10)
    assert_close(rew.sum(0).mean().item(), 16.3, rtol=0, atol=0.5)


def test_the_same_shift_after_the_same_ending_gets_exactly_nothing():
    """Whichever of the 27 such policies: the mean over habits is 0 by symmetry."""
    habits = list(product((0.0, 1.0, 2.0), repeat=3))
    rows = [(*h, *s) for h in habits for s in product((0.5, 0.9), repeat=3)]
    chances = joint_chances(FAMILY.task_type(*torch.tensor(rows).T.unsqueeze(-1)))
    for shifts in product(range(3), repeat=3):
        acts = [(its + shifts[(its - mine) % 3]) % 3 for mine, its in product(range(3), repeat=2)]
        policy = torch.nn.functional.one_hot(torch.tensor([*acts, 0]), 3).double()
        each = exact_return(chances, policy)
        assert abs(each.mean()) < 1e-6
        assert each.abs().max() > 5, "all get nothing: the test is blind"


def test_the_best_that_never_adapts_gets_what_the_docstring_says():
    """Gradient ascent on the exact return over all policies of the last joint move."""
    task, weights = every_opponent()
    keep = torch.rand(len(weights), generator=torch.Generator().manual_seed(0)).argsort()[:150]
    chances = joint_chances(task).float()
    logits = torch.randn(2, 1, 10, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(50):
        optimiser.zero_grad()
        policy = logits.softmax(-1)
        each = exact_return(chances[keep], policy)
        (-(each @ weights[keep].float()).sum()).backward()
        optimiser.step()
    policy = logits.detach().softmax(-1)
    got = exact_return(chances, policy) @ weights.float()
    assert got.min() > 2.0
    assert_close(got.max().item(), 2.6, rtol=0, atol=0.15)


RING, BLUE, RED = (250, 205, 70), (70, 140, 230), (225, 95, 80)


def has(picture, color):
    return bool((picture == color).all(-1).any())


@pytest.mark.parametrize(("mine", "its", "winner"), [(0, 1, "red"), (1, 0, "blue"), (2, 2, None)])
def test_frame_rings_the_winner_and_tells_score_and_likely_move(mine, its, winner):
    task = make_task(FAMILY, tie_strength=0.9, win_strength=0.9, loss_strength=0.9)
    state = FAMILY.reset(task, torch.rand(1, 1, 0))
    score = {"red": -5.0, "blue": 5.0, None: 0.0}[winner]
    state = state._replace(
        joint=torch.tensor([[3 * mine + its]]),
        score=torch.tensor([[score]]),
        played=state.played + 7,
    )
    picture = FAMILY.frame(state, task)
    assert picture.shape == (250, 400, 3)
    left, right = picture[:180, :160], picture[:180, 160:300]
    assert (has(left, RING), has(right, RING)) == (winner == "blue", winner == "red")
    bar = picture[196:210]
    assert (has(bar, BLUE), has(bar, RED)) == (winner == "blue", winner == "red")
    rows = [(picture[45 + 50 * i, 350:384] == RED).all(-1).sum() for i in range(3)]
    assert rows.index(max(rows)) == its  # by its habit it stays
    assert max(rows) > 26
    played = [(picture[232, round(20 + 12 * (k + 0.5))] > 220).all() for k in range(30)]
    assert sum(played) == 7
