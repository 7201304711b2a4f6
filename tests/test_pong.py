"""Pong against its definition, and the anchors in its docstring."""

from itertools import product

import pytest
import torch
from reference import draw, play, random_acts
from torch.testing import assert_close

from metarl.envs import Range, UsageError, make_task
from metarl.envs.games.pong import Pong, State, _fold

FAMILY = Pong()
STAY = torch.ones(1, 1, dtype=torch.long)
USUAL = {"skill": 0.04, "weak": 0.0, "spin": 0.0, "paddle": 0.2, "inverted": 0.0}


class ByDefinition:
    """One game, number by number."""

    def __init__(self, state, rules, n, b):
        self.rules = rules
        for name, column in state._asdict().items():
            setattr(self, name, column[n, b].item())

    def hit(self, offset):
        self.vy, self.curl = 0.06 * offset, 0.03 * self.rules["spin"] * offset

    def fly(self):
        self.y += self.vy + 0.5 * self.curl
        self.vy += self.curl
        if self.y < 0 or self.y > 1:
            self.y = -self.y if self.y < 0 else 2 - self.y
            self.vy, self.curl = -self.vy, -self.curl

    def run(self):
        """The opponent's step."""
        goal = 0.5
        if self.away == 1:
            goal = min(max(self.y - self.aim * self.rules["paddle"] / 2, 0.0), 1.0)
        if goal < self.foe:
            self.foe = max(goal, self.foe - self.rules["skill"] * (1 - self.rules["weak"]))
        else:
            self.foe = min(goal, self.foe + self.rules["skill"] * (1 + self.rules["weak"]))

    def step(self, key, luck, place):
        way = {0: -0.05, 1: 0.0, 2: 0.05}[2 - key if self.rules["inverted"] else key]
        self.me = min(max(self.me + way, 0.0), 1.0)
        self.run()
        self.fly()
        self.left -= 1
        if self.left > 0:
            return 0
        side, self.left = self.away, 8
        offset = (self.y - (self.foe if side == 1 else self.me)) / (self.rules["paddle"] / 2)
        self.aim = 0.8 * (2 * luck - 1)
        if abs(offset) > 1:  # a point, and the opponent serves
            self.away, self.y = -1, place
            self.hit(2 * luck - 1)
            return side
        self.away = -side
        self.hit(offset)
        return 0


def rules(task, n=0):
    return {name: column[n].item() for name, column in task._asdict().items()}


def rally(**values):
    """One ball at the middle, a step away from the agent's paddle, and the usual task."""
    start = {"left": 1, "away": -1, "y": 0.5, "vy": 0, "curl": 0, "me": 0.5, "foe": 0.5, "aim": 0}
    state = {k: torch.full((1, 1), float(values.pop(k, v))) for k, v in start.items()}
    return State(**state), make_task(FAMILY, **{**USUAL, **values})


def step(state, task, key=1, luck=0.5, place=0.5):
    noise = torch.tensor([[[luck, place]]])
    nxt, rew, _ = FAMILY.step(state, STAY * key, task, noise)
    return nxt, rew.item()


@pytest.mark.parametrize("split", ["train", "extrapolate"])
def test_every_step_is_that_of_the_definition(split):
    """A third of the keys are chance's and the rest an oracle's, so that there are rallies."""
    task = type(draw(FAMILY))(*(x.double() for x in draw(FAMILY, 12, split)))
    gen = torch.Generator().manual_seed(1)
    state = FAMILY.reset(task, torch.rand(12, 3, 2, generator=gen, dtype=torch.float64))
    acts, seen = random_acts(FAMILY, (96, 12, 3)), set()
    games = {
        (n, b): ByDefinition(state, rules(task, n), n, b) for n, b in product(range(12), range(3))
    }
    for t in range(96):
        noise = torch.rand(12, 3, 2, generator=gen, dtype=torch.float64)
        act = torch.where(torch.arange(3) < 1, acts[t], FAMILY.oracle(state, task))
        state, rew, terminated = FAMILY.step(state, act, task, noise)
        assert not terminated.any()
        for (n, b), one in games.items():
            assert rew[n, b].item() == one.step(int(act[n, b]), *noise[n, b].tolist())
            got = {name: column[n, b].item() for name, column in state._asdict().items()}
            want = {name: getattr(one, name) for name in state._fields}
            assert got == pytest.approx(want, rel=0, abs=1e-9)
            seen.add((rew[n, b].item(), one.left == 8, one.away))
    assert seen >= {(1, True, -1), (-1, True, -1), (0, True, -1), (0, True, 1), (0, False, 1)}


@pytest.mark.parametrize(("inverted", "want"), [(0.0, [0.45, 0.5, 0.55]), (1.0, [0.55, 0.5, 0.45])])
def test_keys_move_the_paddle_and_may_be_the_other_way_round(inverted, want):
    state, task = rally(left=5, inverted=inverted)
    assert_close([step(state, task, key)[0].me.item() for key in range(3)], want)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("gap", "caught"), [(0.099, True), (0.101, False)])
def test_a_paddle_reaches_half_its_length(sign, gap, caught):
    state, task = rally(y=0.5 + sign * gap, spin=0.5)
    nxt, rew = step(state, task, luck=0.75, place=0.1)
    assert (rew, nxt.left.item(), nxt.away.item()) == ((0, 8, 1) if caught else (-1, 8, -1))
    offset = sign * 0.99 if caught else 0.5
    assert nxt.y.item() == pytest.approx(0.5 + sign * gap if caught else 0.1)
    assert nxt.vy.item() == pytest.approx(0.06 * offset)
    assert nxt.curl.item() == pytest.approx(0.015 * offset)


@pytest.mark.parametrize(("gap", "reward"), [(0.139, 0), (0.141, 1)])
def test_a_ball_that_the_opponent_misses_is_a_point(gap, reward):
    """It runs 0.04 in the step, and its paddle reaches 0.1."""
    state, task = rally(away=1, y=0.5 + gap, skill=0.04)
    assert step(state, task)[1] == reward


@pytest.mark.parametrize(("y", "moved"), [(0.9, 0.06), (0.1, -0.02), (0.51, 0.01)])
def test_the_opponent_is_slower_to_its_weak_side(y, moved):
    state, task = rally(left=5, away=1, y=y, weak=0.5)
    assert step(state, task)[0].foe.item() == pytest.approx(0.5 + moved)


def test_the_opponent_takes_the_ball_where_it_aims_and_goes_back_to_the_middle():
    state, task = rally(left=5, away=1, y=0.52, aim=0.5)
    assert step(state, task)[0].foe.item() == pytest.approx(0.47)
    state, task = rally(left=5, away=-1, y=0.9, foe=0.1)
    assert step(state, task)[0].foe.item() == pytest.approx(0.14)


@pytest.mark.parametrize("vy", [-0.1, 0.1])
def test_walls_mirror_the_whole_path(vy):
    """A ball that curves past a wall lies where the parabola's mirror image does."""
    state, task = rally(left=8, away=-1, y=0.5, vy=vy, curl=vy / 5)
    for k in range(1, 8):
        state, _ = step(state, task)
        far = 0.5 + vy * k + vy / 10 * k * k
        assert state.y.item() == pytest.approx(_mirrored(far), abs=1e-6)
    assert not 0 <= far <= 1


def _mirrored(y):
    while not 0 <= y <= 1:
        y = -y if y < 0 else 2 - y
    return y


def test_fold_is_the_mirror_image():
    y = torch.linspace(-3, 4, 141, dtype=torch.float64)
    assert _fold(y).tolist() == pytest.approx([_mirrored(v) for v in y.tolist()])


def test_observation_is_along_way_vy_ball_below_and_opponent():
    state, _ = rally(left=2, away=1, y=0.75, vy=0.186, me=0.5, foe=0.1)
    assert_close(FAMILY.observe(state)[0, 0].tolist(), [0.5, 1.0, 0.5, 0.5, 1.0, -0.8])
    state, _ = rally(left=8, away=-1, y=0.0, vy=-0.372, me=1)
    assert_close(FAMILY.observe(state)[0, 0].tolist(), [1.0, -1.0, -1.0, -1.0, -4.0, 0.0])


def test_a_first_observation_shows_nothing_of_the_task():
    noise = torch.rand(1, 5, 2)
    a = make_task(FAMILY, skill=0.02, weak=-0.8, spin=-1.0, paddle=0.2, inverted=0.0)
    b = make_task(FAMILY, skill=0.05, weak=0.8, spin=1.0, paddle=0.32, inverted=1.0)
    assert_close(FAMILY.observe(FAMILY.reset(a, noise)), FAMILY.observe(FAMILY.reset(b, noise)))


def test_oracle_catches_every_ball_that_some_keys_catch():
    """The paddle can be at 0.5 + 0.05 k, |k| <= 8, when the serve arrives."""
    task, gen = draw(FAMILY, 200, "test", seed=3), torch.Generator().manual_seed(0)
    task = task._replace(spin=1.3 * task.spin.sign(), paddle=torch.full_like(task.spin, 0.16))
    state = FAMILY.reset(task, torch.rand(200, 1, 2, generator=gen))
    catchable = []
    for n in range(200):
        one = ByDefinition(state, rules(task, n), n, 0)
        for _ in range(8):
            one.fly()
        catchable.append(min(abs(one.y - 0.5 - 0.05 * k) for k in range(-8, 9)) <= 0.08)
    for _ in range(8):
        state, rew, _ = FAMILY.step(state, FAMILY.oracle(state, task), task, torch.zeros(200, 1, 2))
    assert ((rew[:, 0] == 0) == torch.tensor(catchable)).all()
    assert 0 < sum(catchable) < 200


def margins(state, task):
    """By how much the opponent misses each of the nine shots at a straight ball, played out."""
    found = {}
    for offset in (0.828125 * torch.linspace(-1, 1, 9)).tolist():
        one = ByDefinition(state, rules(task), 0, 0)
        for _ in range(int(one.left)):
            one.run()
        one.away = 1
        one.hit(offset)
        for _ in range(8):
            one.run()
            one.fly()
        found[offset] = abs(one.y - one.foe)
    return found


@pytest.mark.parametrize(
    ("weak", "spin", "left", "me", "foe", "want"),
    [
        (0.8, 0.5, 3, 0.5, 0.5, 2),  # a shot up, off the paddle's upper half, beats it
        (-0.8, 0.5, 3, 0.5, 0.5, 0),
        (0.5, -1.0, 3, 0.5, 0.5, 0),  # curves back: a shot down ends above
        (-0.5, -1.0, 3, 0.5, 0.5, 2),
        (-0.6, 0.5, 8, 0.5, 0.95, 0),  # low now, the opponent will be back in the middle
        (0.3, 0.5, 1, 0.368, 0.5, 1),  # the shot up is out of reach, the shot down needs no move
    ],
)
def test_oracle_shoots_where_the_opponent_misses_by_most(weak, spin, left, me, foe, want):
    state, task = rally(left=left, me=me, foe=foe, weak=weak, spin=spin, paddle=0.32, skill=0.04)
    missed = margins(state, task)
    near = {o: m for o, m in missed.items() if abs(0.5 - 0.16 * o - me) <= 0.05 * (left + 0.5)}
    move = 0.5 - 0.16 * max(near, key=near.get) - me
    assert want == (1 if abs(move) <= 0.025 else 2 if move > 0 else 0)
    assert FAMILY.oracle(state, task).item() == want
    assert (max(missed, key=missed.get) in near) == (left > 1)


def test_oracle_plays_inverted_keys_inverted():
    task, gen = draw(FAMILY, 20), torch.Generator().manual_seed(0)
    state = FAMILY.reset(task, torch.rand(20, 5, 2, generator=gen))
    keys = [
        FAMILY.oracle(state, task._replace(inverted=torch.full_like(task.spin, i))) for i in (0, 1)
    ]
    assert torch.equal(keys[0], 2 - keys[1])
    assert set(keys[0].flatten().tolist()) == {0, 1, 2}


def mean_return(actor, task, episodes=4):
    return play(FAMILY, task, actor, episodes)[1].sum(0).mean().item()


def told(**wrong):
    """An oracle that takes some rules for what they are not."""
    return lambda state, task: FAMILY.oracle(
        state, task._replace(**{k: torch.full_like(task.spin, v) for k, v in wrong.items()})
    )


def test_anchors_are_those_in_the_docstring():
    task = draw(FAMILY, 200, "test", seed=7)
    task = task._replace(inverted=torch.arange(200.0).remainder(2).view(200, 1))
    want = {
        -5.8: lambda state, task: torch.ones_like(state.y).long(),
        4.5: FAMILY.oracle,
        -2.1: told(inverted=0.0),
        -2.7: told(inverted=0.0, spin=0.0, weak=0.0),
        3.2: told(spin=0.0),
        4.0: told(weak=0.0),
    }
    for value, actor in want.items():
        assert mean_return(actor, task) == pytest.approx(value, rel=0, abs=0.3)


def test_impossible_constants_are_refused():
    with pytest.raises(UsageError, match=r"kick=0\.9.*cross >= 1"):
        Pong(kick=0.9)
    with pytest.raises(UsageError, match="cross the court"):
        Pong(spin=Range(-5.0, 5.0))
