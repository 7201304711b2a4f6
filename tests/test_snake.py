"""Snake against its definition, and the anchors in its docstring."""

import math
from dataclasses import replace

import pytest
import torch
from reference import draw, play, random_acts
from torch.testing import assert_close

from metarl.envs import Choice, UsageError, make_task
from metarl.envs.games.snake import Snake

FAMILY = Snake()
UP, RIGHT, DOWN, LEFT = range(4)
STEPS = {UP: (-1, 0), RIGHT: (0, 1), DOWN: (1, 0), LEFT: (0, -1)}


class SnakeByDefinition:
    """A list of cells with the head first, and a dictionary of items, on a board of its own."""

    def __init__(self, family, task, n, cells):
        self.family = family
        self.worth = [task.apple[n].item(), task.berry[n].item(), task.plum[n].item()]
        self.size, self.wrap = int(task.size[n]), bool(task.wrap[n])
        self.first = (family.plane - self.size) // 2  # of the plane's rows that is on the board
        middle = family.plane // 2 - self.first
        self.body = [(middle, middle - k) for k in range(3)]
        self.heading, self.items = RIGHT, {}
        for k, code in enumerate(cells):
            if code < 0:
                r, c = divmod(k, family.plane)
                self.items[r - self.first, c - self.first] = int(-code)

    def board(self):
        return [(r, c) for r in range(self.size) for c in range(self.size)]

    def step(self, key, noise):
        """Reward and whether it is dead; a dead snake isn't moved."""
        if (key - self.heading) % 4 != 2:
            self.heading = key
        (r, c), (down, right) = self.body[0], STEPS[self.heading]
        head = (r + down, c + right)
        if self.wrap:
            head = (head[0] % self.size, head[1] % self.size)
        if head not in self.board():
            return -1.0, True
        kind = self.items.pop(head, 0)
        if not kind or len(self.body) == self.family.longest:
            self.body.pop()
        if head in self.body:
            return -1.0, True
        self.body.insert(0, head)
        if not kind:
            return 0.0, False
        empty = [x for x in self.board() if x not in self.items and x not in self.body]
        self.items[empty[math.floor(noise * len(empty))]] = kind
        return self.worth[kind - 1], False

    def planes(self):
        n, (r, c) = self.family.plane, self.body[0]
        seen = torch.zeros(5, n, n)
        for k, cell in enumerate(self.body):
            life = (len(self.body) - k) / self.family.longest
            self.put(seen[3], (cell[0] - r + n // 2, cell[1] - c + n // 2), life)
        for cell, kind in self.items.items():
            self.put(seen[kind - 1], (cell[0] - r + n // 2, cell[1] - c + n // 2), 1.0)
        self.put(seen[4], (r + self.first, c + self.first), 1.0)
        return seen

    @staticmethod
    def put(plane, cell, value):
        if 0 <= cell[0] < len(plane) and 0 <= cell[1] < len(plane):
            plane[cell] = value


def begin(task, episodes=2, family=FAMILY, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return family.reset(task, torch.rand(len(task[0]), episodes, family.reset_noise, generator=gen))


def go(state, task, *keys, noise=0.0, family=FAMILY):
    """Rewards and deaths of one episode's keys, and the last state."""
    out = []
    for key in keys:
        state, rew, dies = family.step(
            state, torch.tensor([[key]]), task, torch.full((1, 1, 1), noise)
        )
        out.append((round(rew.item(), 5), dies.item()))
    return out, state


def alone(state, *food):
    """The same without food but for (row, column, kind) on the plane."""
    cells = state.cells.clamp(min=0)
    for row, column, kind in food:
        cells[..., row * 7 + column] = -kind
    return state._replace(cells=cells)


@pytest.mark.parametrize(
    "family",
    [FAMILY, replace(FAMILY, plane=9, longest=4, count=1)],
)
def test_every_step_is_that_of_the_definition(family):
    """The oracle and chance take turns, so that snakes grow long, and die in every way."""
    task, gen = draw(family, 24), torch.Generator().manual_seed(0)
    state, acts = begin(task, 2, family), random_acts(family, (60, 24, 2))
    rows = [(n, b) for n in range(24) for b in range(2)]
    games = {
        (n, b): SnakeByDefinition(family, task, n, state.cells[n, b].tolist()) for n, b in rows
    }
    grown = 0
    for t, act in enumerate(acts):
        noise = torch.rand(24, 2, 1, generator=gen)
        act = act if t % 7 == 6 else family.oracle(state, task)
        seen = family.observe(state)
        state, rew, dies = family.step(state, act, task, noise)
        for n, b in list(games):
            assert_close(seen[n, b], games[n, b].planes())
            expected = games[n, b].step(int(act[n, b]), noise[n, b].item())
            assert (rew[n, b].item(), dies[n, b].item()) == pytest.approx(expected)
            if expected[1]:
                del games[n, b]
        grown = max([grown, *(len(game.body) for game in games.values())])
    assert grown == family.longest
    assert 0 < len(games) < len(rows)


def test_food_lies_on_distinct_empty_cells_of_the_smallest_board_each_alike():
    """Of five cells a side: where it lies tells nobody that this one has six."""
    task = make_task(FAMILY, size=6)
    state = begin(task, 6000)
    kinds = torch.stack([(state.cells == -k).sum(-1) for k in (1, 2, 3)])
    assert (kinds == 3).all()
    often = (state.cells < 0).sum((0, 1)).view(7, 7)
    assert (often[1:6, 1:6] > 0).sum() == 22 == (often > 0).sum()  # 25 without the snake's three
    mean, spread = 6000 * 9 / 22, (6000 * 9 / 22 * (1 - 9 / 22)) ** 0.5
    assert ((often[often > 0] - mean).abs() < 5 * spread).all()
    body = state.cells.clamp(min=0)
    assert (body == body[:, :1]).all()
    assert body[0, 0].view(7, 7)[3].tolist() == [0, 1, 2, 3, 0, 0, 0]


@pytest.mark.parametrize("size", [5, 6, 7])
@pytest.mark.parametrize("key", [UP, RIGHT, DOWN])
def test_the_edge_kills_or_leads_to_the_other_side(size, key):
    first = (7 - size) // 2
    free = 3 - first if key == UP else first + size - 4  # cells between the middle and the edge
    task = make_task(FAMILY, size=size, wrap=0)
    got, _ = go(alone(begin(task, 1)), task, *[key] * (free + 1))
    assert got == [(0.0, False)] * free + [(-1.0, True)]
    task = make_task(FAMILY, size=size, wrap=1)
    got, state = go(alone(begin(task, 1)), task, *[key] * size)
    assert got == [(0.0, False)] * size
    assert state.head.item() == 3 * 7 + 3  # once around


def test_turning_back_is_going_straight_on():
    task = make_task(FAMILY, size=7)
    got, state = go(alone(begin(task, 1)), task, LEFT)
    assert got == [(0.0, False)]
    assert (state.head.item(), state.heading.item()) == (3 * 7 + 4, RIGHT)


def test_a_snake_of_four_may_follow_its_tail_and_one_of_five_hits_itself():
    task = make_task(FAMILY, size=7, apple=0.5, berry=-0.5, wrap=0)
    circle = (DOWN, LEFT, UP, RIGHT, DOWN, LEFT, UP)
    got, state = go(alone(begin(task, 1), (3, 4, 1)), task, RIGHT, noise=0.99)
    assert got == [(0.5, False)]
    assert state.length.item() == 4
    got, _ = go(alone(state), task, *circle)
    assert got == [(0.0, False)] * 7
    got, state = go(alone(begin(task, 1), (3, 4, 1), (3, 5, 2)), task, RIGHT, RIGHT, noise=0.99)
    assert got == [(0.5, False), (-0.5, False)]
    got, _ = go(alone(state), task, *circle)
    assert got[:3] == [(0.0, False), (0.0, False), (-1.0, True)]


def test_what_is_eaten_grows_again_on_each_empty_cell_alike():
    task = make_task(FAMILY, size=5)
    state = alone(begin(task, 1), (3, 4, 3), (5, 5, 1))
    empty = 25 - 4 - 1  # the snake of four, the apple
    many = type(state)(*(x.expand(1, empty, *x.shape[2:]) for x in state))
    noise = ((torch.arange(empty) + 0.5) / empty).view(1, empty, 1)
    nxt, _, _ = FAMILY.step(many, torch.ones(1, empty, dtype=torch.long), task, noise)
    plums = nxt.cells[0] == -3
    assert (plums.sum(-1) == 1).all()
    assert len(set(plums.int().argmax(-1).tolist())) == empty
    last = torch.tensor(1.0).nextafter(torch.tensor(0.0)).view(1, 1, 1)
    nxt, _, _ = FAMILY.step(state, torch.ones(1, 1, dtype=torch.long), task, last)
    assert (nxt.cells == -3).sum() == 1


def test_without_adapting_no_policy_gets_more_than_nothing():
    """A game and that with the opposite worths pay together minus the deaths, whoever plays."""
    gen, task = torch.Generator().manual_seed(0), draw(FAMILY, 30)
    both = type(task)(*(torch.cat((x, -x if k < 3 else x)) for k, x in enumerate(task)))

    def same(*shape):  # luck that both share
        return torch.rand(30, *shape, generator=gen).repeat(2, *[1] * len(shape))

    state, mask = FAMILY.reset(both, same(8, 49)), torch.ones(60, 8, dtype=torch.bool)
    weights, total = torch.randn(5 * 49, 4, generator=gen), torch.zeros(60, 8)
    for _ in range(FAMILY.horizon):
        act = (FAMILY.observe(state).flatten(2) @ weights + 9 * same(8, 4)).argmax(-1)
        state, rew, dies = FAMILY.step(state, act, both, same(8, 1))
        total += torch.where(mask, rew, 0)
        mask &= ~dies
    assert torch.equal(mask[:30], mask[30:])
    assert_close(total[:30] + total[30:], -2.0 * (~mask[:30]).float(), rtol=0, atol=1e-5)
    assert (total + (~mask).float()).abs().mean() > 0.2, "it eats nothing: the test is blind"


def oracle_return(task, told=None):
    actor = FAMILY.oracle if told is None else lambda state, _: FAMILY.oracle(state, told)
    return play(FAMILY, task, actor, episodes=5)[1].sum(0).mean(-1)


def test_oracle_return_is_the_one_in_the_docstring():
    task = draw(FAMILY, 400, "test")
    assert_close(oracle_return(task).mean().item(), 9.5, rtol=0, atol=0.35)


@pytest.mark.parametrize(("wrap", "key"), [(0, RIGHT), (1, UP)])
def test_oracle_goes_to_food_across_the_edge_where_that_is_shorter(wrap, key):
    task = make_task(FAMILY, apple=1.0, size=7, wrap=wrap)
    _, state = go(alone(begin(task, 1)), task, UP, UP)
    state = alone(state, (6, 4, 1))  # behind the snake, or two cells before it across the edge
    assert FAMILY.oracle(state, task).item() == key


@pytest.mark.parametrize(("hidden", "lost"), [("apple", 1.0), ("size", 0.5), ("wrap", 1.0)])
def test_who_believes_something_false_does_worse(hidden, lost):
    """So each hidden rule has to be found out."""
    task = draw(FAMILY, 200, "test")
    other = {"apple": -task.apple, "size": 12 - task.size, "wrap": 1 - task.wrap}[hidden]
    told = task._replace(**{hidden: other})
    assert (oracle_return(task) - oracle_return(task, told)).mean() > lost


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"plane": 8}, "odd plane"),
        ({"size": Choice((5.0, 8.0))}, "sizes from 4 to plane"),
        ({"count": 6}, "empty"),
        ({"longest": 2}, "longest=2 is out of bounds"),
    ],
)
def test_constants_that_make_no_game_are_told(wrong, words):
    with pytest.raises(UsageError, match=words):
        Snake(**wrong)


def test_frame_shows_head_food_and_edge_where_they_are():
    wall, wrap = (make_task(FAMILY, apple=1, size=5, wrap=w) for w in (0, 1))
    state = alone(begin(wall, 1), (1, 1, 1), (5, 5, 2), (1, 5, 3))
    picture = torch.from_numpy(FAMILY.frame(state, wall).copy())

    def cells_with(color):
        there = (picture == torch.tensor(color)).all(-1).nonzero() - 8  # pixels of the margin
        return {tuple(x) for x in there.div(44, rounding_mode="floor").tolist()}

    assert cells_with((214, 60, 52)) == {(1, 1)}
    assert cells_with((62, 90, 200)) == {(5, 5)}
    assert cells_with((140, 62, 150)) == {(1, 5)}
    assert cells_with((40, 104, 58)) == {(3, 3)}
    assert {(3, 1), (3, 2)} <= cells_with((58, 128, 72)) <= {(3, 1), (3, 2), (3, 3)}
    ring = {(r, c) for r in range(7) for c in range(7) if {r, c} & {0, 6}}
    assert cells_with((178, 84, 60)) == ring  # around a board of five cells a side
    picture = torch.from_numpy(FAMILY.frame(state, wrap).copy())
    assert not cells_with((178, 84, 60))


def test_frame_shows_where_the_snake_is_heading():
    """Its eyes: the white of the head's cell lies on the side to which it goes."""
    task = make_task(FAMILY, size=7)
    state, middle = alone(begin(task, 1)), 8 + 3 * 44 + 22
    for heading, (down, right) in STEPS.items():
        turned = state._replace(heading=torch.full_like(state.heading, heading))
        picture = torch.from_numpy(FAMILY.frame(turned, task).copy())
        head = picture[middle - 20 : middle + 20, middle - 20 : middle + 20]
        at = (head > 240).all(-1).nonzero().float().mean(0) - 19.5
        assert (at * torch.tensor([down, right])).sum() > 4
