"""Breakout against its definition, and the anchors in its docstring."""

import math
from itertools import product

import pytest
import torch
from reference import draw, play, random_acts
from torch.testing import assert_close

from metarl.envs import UsageError, make_task
from metarl.envs.games.breakout import LAYOUTS, Breakout, State

FAMILY = Breakout()
STAY = torch.ones(1, 1, dtype=torch.long)
LUCK = torch.full((1, 1, 2), 0.25)  # a slope of -0.5, a new ball a quarter along the court


class ByDefinition:
    """One game, its bricks a set of (row, column); the ball at (x, y) flies on by (dx, dy)."""

    def __init__(self, state, rules, n, b):
        self.rules = rules
        self.x, self.y, self.slope, self.down, self.paddle = (s[n, b].item() for s in state[:5])
        picture = state.bricks[n, b].view(2, 8).tolist()
        self.bricks = {(i + 1, j) for i in range(2) for j in range(8) if picture[i][j]}

    def wall(self):
        layout = LAYOUTS[int(self.rules["layout"])]
        return {(i + 1, j) for i in range(2) for j in range(8) if layout[i][j] == "#"}

    def step(self, key, slope_luck, place_luck):
        way = {0: -0.8, 1: 0.0, 2: 0.8}[2 - key if self.rules["inverted"] else key]
        self.paddle = min(max(self.paddle + way, 0.0), 7.0)
        return sum(self.half(slope_luck, place_luck) for _ in range(2))

    def half(self, slope_luck, place_luck):
        """Half a step of the ball; what it is worth."""
        dx, dy = self.rules["speed"] * self.slope / 2, self.down * self.rules["speed"] / 2
        if self.down == 1 and self.y > 4.5:
            dx += self.rules["wind"] / 2
        x, y, slope, down = self.x + dx, self.y + dy, self.slope, self.down
        if x < 0:
            x, slope = -x, abs(slope)
        elif x > 7:
            x, slope = 14 - x, -abs(slope)
        if y < 0:
            y, down = -y, 1
        brick = (math.floor(y + 0.5), math.floor(x + 0.5))
        if brick in self.bricks:
            self.bricks.remove(brick)
            self.down = -down
            return 1
        self.x, self.y, self.slope, self.down = x, y, slope, down
        if y < 7:
            return 0
        offset = (x - self.paddle) / (self.rules["width"] / 2)
        if abs(offset) > 1:
            self.x, self.y, self.slope, self.down = 7 * place_luck, 3, 2 * slope_luck - 1, 1
            return -1
        self.y, self.down = 14 - y, -1
        self.slope = 0.3 * offset + 0.7 * (2 * slope_luck - 1)
        self.bricks = self.bricks or self.wall()
        return 0


def rules(task, n):
    return {name: column[n].item() for name, column in task._asdict().items()}


def game(x, y, slope=0.0, down=1.0, paddle=0.0, bricks=(), **values):
    """One ball in one task without wind, one row a step, unless told otherwise."""
    defaults = {"speed": 1.0, "wind": 0.0, "width": 2.0, "inverted": 0.0, "layout": 0.0}
    task = make_task(FAMILY, **{**defaults, **values})
    stand = torch.zeros(1, 1, 2, 8)
    for row, column in bricks:
        stand[..., row - 1, column] = 1
    numbers = (torch.full((1, 1), float(v)) for v in (x, y, slope, down, paddle))
    return State(*numbers, stand.flatten(2)), task


def spots(plane):
    return {(i, j): round(v, 4) for (i, j), v in _cells(plane) if v}


def _cells(plane):
    return (((i, j), plane[i][j]) for i in range(8) for j in range(8))


@pytest.mark.parametrize("split", ["train", "extrapolate"])
def test_every_step_is_that_of_the_definition(split):
    """Half of the keys are chance's and half an oracle's, so that bricks run out and come back."""
    task = type(draw(FAMILY))(*(x.double() for x in draw(FAMILY, 12, split)))
    gen = torch.Generator().manual_seed(1)
    state = FAMILY.reset(task, torch.rand(12, 4, 3, generator=gen, dtype=torch.float64))
    few = torch.rand(state.bricks.shape, generator=gen) < 0.3
    state = state._replace(bricks=state.bricks * few)
    acts, seen = random_acts(FAMILY, (60, 12, 4)), set()
    for t in range(60):
        noise = torch.rand(12, 4, 2, generator=gen, dtype=torch.float64)
        act = torch.where(torch.arange(4) < 2, acts[t], FAMILY.oracle(state, task))
        nxt, rew, terminated = FAMILY.step(state, act, task, noise)
        assert not terminated.any()
        for n, b in product(range(12), range(4)):
            one = ByDefinition(state, rules(task, n), n, b)
            before = len(one.bricks)
            assert rew[n, b].item() == one.step(int(act[n, b]), *noise[n, b].tolist())
            got = [s[n, b].item() for s in nxt[:5]]
            want = [one.x, one.y, one.slope, one.down, one.paddle]
            assert got == pytest.approx(want, rel=0, abs=1e-12)
            assert ByDefinition(nxt, one.rules, n, b).bricks == one.bricks
            seen.add((rew[n, b].item(), len(one.bricks) > before))
        state = nxt
    assert seen >= {(-1.0, False), (0.0, False), (1.0, False), (0.0, True)}


@pytest.mark.parametrize(("inverted", "want"), [(0.0, [2.2, 3.0, 3.8]), (1.0, [3.8, 3.0, 2.2])])
def test_keys_move_the_paddle_and_may_be_the_other_way_round(inverted, want):
    state, task = game(0, 3, paddle=3, inverted=inverted)
    moved = [FAMILY.step(state, STAY * k, task, LUCK)[0].paddle.item() for k in range(3)]
    assert_close(moved, want)


@pytest.mark.parametrize(
    ("gap", "caught"), [(0.99, True), (1.01, False), (-0.99, True), (-1.01, False)]
)
def test_the_paddle_reaches_half_its_width(gap, caught):
    state, task = game(3 + gap, 6.75, paddle=3)
    nxt, rew, _ = FAMILY.step(state, STAY, task, LUCK)
    if caught:
        assert (rew.item(), nxt.down.item(), nxt.y.item()) == (0, -1, 6.25)  # up from 6.75
        assert_close(nxt.slope.item(), 0.3 * gap - 0.35)
    else:
        assert (rew.item(), nxt.down.item(), nxt.slope.item()) == (-1, 1, -0.5)
        assert (nxt.x.item(), nxt.y.item()) == (1.5, 3.5)  # served at (1.75, 3), half a step ago


def test_a_ball_turns_at_a_brick_and_takes_it():
    state, task = game(3, 2.75, down=-1, bricks=[(2, 3), (2, 4)])
    nxt, rew, _ = FAMILY.step(state, STAY, task, LUCK)
    assert (rew.item(), nxt.down.item(), nxt.y.item()) == (1, 1, 3.25)
    assert ByDefinition(nxt, {}, 0, 0).bricks == {(2, 4)}


def test_bricks_come_back_with_the_bounce_off_the_paddle():
    state, task = game(3, 2.75, down=-1, paddle=3, bricks=[(2, 3)], layout=1.0)
    counts = []
    for _ in range(5):
        state, _, _ = FAMILY.step(state, STAY, task, torch.full((1, 1, 2), 0.5))
        counts.append(int(state.bricks.sum()))
    assert counts == [0, 0, 0, 0, 8]
    assert ByDefinition(state, {"layout": 1.0}, 0, 0).bricks == {
        (i, j) for i in (1, 2) for j in range(8) if (i + j) % 2
    }


@pytest.mark.parametrize(
    ("y", "down", "drift"), [(5.0, 1.0, 0.6), (5.0, -1.0, 0), (4.4, 1.0, 0.3), (3.0, 1.0, 0)]
)
def test_wind_drives_a_falling_ball_above_the_paddle(y, down, drift):
    state, task = game(3, y, down=down, wind=0.6)
    nxt, _, _ = FAMILY.step(state, STAY, task, LUCK)
    assert nxt.x.item() == pytest.approx(3 + drift)


def test_wind_against_a_wall_does_not_turn_the_ball_outwards():
    state, task = game(6, 5, slope=-0.1, wind=1.6)  # it is blown past the wall once
    nxt, _, _ = FAMILY.step(state, STAY, task, LUCK)
    assert_close(nxt.slope.item(), -0.1)
    assert nxt.x.item() < 7


def test_planes_show_ball_heading_bricks_and_paddle():
    state, _ = game(3.25, 4.5, slope=0.5, paddle=5.75, bricks=[(1, 0), (2, 7)])
    ball, trail, solid = FAMILY.observe(state)[0, 0].tolist()
    assert spots(ball) == {(4, 3): 0.375, (5, 3): 0.375, (4, 4): 0.125, (5, 4): 0.125}
    assert spots(trail) == {(3, 2): 0.125, (4, 2): 0.125, (3, 3): 0.375, (4, 3): 0.375}
    assert spots(solid) == {(1, 0): 1, (2, 7): 1, (7, 5): 0.25, (7, 6): 0.75}


def test_a_first_observation_shows_only_the_layout():
    noise = torch.rand(2, 5, 3)
    a, b = (
        make_task(FAMILY, speed=s, wind=w, width=d, inverted=i, layout=2.0)
        for s, w, d, i in ((1.0, -1.0, 1.6, 0.0), (1.6, 1.0, 3.0, 1.0))
    )
    assert torch.equal(
        FAMILY.observe(FAMILY.reset(a, noise)), FAMILY.observe(FAMILY.reset(b, noise))
    )


def test_episodes_start_anywhere_alike():
    state = FAMILY.reset(make_task(FAMILY), torch.tensor([[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]]))
    assert [s.tolist() for s in state[:5]] == [[[0, 7]], [[3, 3]], [[-1, 1]], [[1, 1]], [[7, 0]]]


def test_oracle_catches_every_ball_that_some_keys_catch():
    task, gen = draw(FAMILY, 40, "test", seed=3), torch.Generator().manual_seed(0)
    noise = torch.rand(40, 1, 3, generator=gen)
    keys = torch.tensor(list(product(range(3), repeat=4)))  # as long as the first fall lasts
    task = task._replace(speed=task.speed.clamp(max=1.3))  # none falls twice in four steps
    every, one = FAMILY.reset(task, noise.expand(40, 81, 3)), FAMILY.reset(task, noise)
    lost, missed = torch.zeros(40, 81, dtype=torch.bool), torch.zeros(40, 1, dtype=torch.bool)
    for k in range(4):
        every, rew, _ = FAMILY.step(every, keys[:, k].expand(40, 81), task, torch.zeros(40, 81, 2))
        lost |= rew < 0
        one, rew, _ = FAMILY.step(one, FAMILY.oracle(one, task), task, torch.zeros(40, 1, 2))
        missed |= rew < 0
    assert torch.equal(missed[:, 0], lost.all(1))
    assert 0 < missed.sum() < 20


def mean_return(actor, task, episodes=1):
    return play(FAMILY, task, actor, episodes)[1].sum(0).mean().item()


def told(**wrong):
    """An oracle that takes some rules for what they are not."""
    return lambda state, task: FAMILY.oracle(
        state, task._replace(**{k: torch.full_like(task.wind, v) for k, v in wrong.items()})
    )


def test_anchors_are_those_in_the_docstring():
    task = draw(FAMILY, 400, "test", seed=7)
    task = task._replace(inverted=torch.arange(400.0).remainder(2).view(400, 1))
    want = {
        -5.8: lambda state, task: torch.ones_like(state.x).long(),
        6.2: FAMILY.oracle,
        -2.3: told(inverted=0.0),
        -2.6: told(inverted=0.0, wind=0.0),
        3.3: told(wind=0.0),
    }
    for value, actor in want.items():
        assert_close(mean_return(actor, task), value, rtol=0, atol=0.5)


def test_impossible_constants_are_refused():
    with pytest.raises(UsageError, match=r"size=5 is out of bounds: give a value in \[6, 64\]"):
        Breakout(size=5)
    with pytest.raises(UsageError, match="below 2 rows/step"):
        Breakout(speed=type(FAMILY.speed)(1.0, 2.0))
