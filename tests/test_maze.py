"""The maze against its definition, and the anchors in its docstring."""

from collections import deque
from dataclasses import replace

import pytest
import torch
from reference import draw, play, random_acts
from torch.testing import assert_close

from metarl.envs import SPLITS, Choice, UsageError, make_task
from metarl.envs.games.maze import Maze, gridnavi, walls

FAMILY = Maze()
STEPS = {0: (0, 0), 1: (-1, 0), 2: (0, 1), 3: (1, 0), 4: (0, -1)}


class MazeByDefinition:
    """One maze of walls between cells: a set of passages, and an agent that walks through them."""

    def __init__(self, layout, goal, family):
        self.n, self.family = family.size, family
        self.goal = divmod(goal, self.n)
        right, below = (w.tolist() for w in walls(layout, self.n, family.loops))
        self.passages = set()
        for r in range(self.n):
            for c in range(self.n):
                if not right[r][c]:
                    self.passages |= {((r, c), (r, c + 1)), ((r, c + 1), (r, c))}
                if not below[r][c]:
                    self.passages |= {((r, c), (r + 1, c)), ((r + 1, c), (r, c))}

    def moves(self, at):
        """Where each action leads."""
        there = {a: (at[0] + dr, at[1] + dc) for a, (dr, dc) in STEPS.items()}
        return {a: to if (at, to) in self.passages else at for a, to in there.items()}

    def ways(self):
        """Length of the shortest way from each cell to the goal, by breadth-first search."""
        found, queue = {self.goal: 0}, deque([self.goal])
        while queue:
            at = queue.popleft()
            for to in self.moves(at).values():
                if to not in found:
                    found[to] = found[at] + 1
                    queue.append(to)
        return found

    def reward(self, at, to, ways):
        return (1.0 if to == self.goal else -self.family.cost) + self.family.hint * (
            ways[at] - ways[to]
        )

    def planes(self, at):
        """Walls right of and below each cell, and the cells, all seen from `at`."""
        far = self.n - 1
        offsets = range(-far, far + 1)

        def cell(i, j):
            r, c = at[0] + i, at[1] + j
            return 0 <= r < self.n and 0 <= c < self.n

        def wall(i, j, dr, dc):
            here = (at[0] + i, at[1] + j)
            there = (here[0] + dr, here[1] + dc)
            lit = not self.family.dark or max(abs(i), abs(j)) <= self.family.reach
            touches = cell(i, j) or cell(i + dr, j + dc)
            return lit and touches and (here, there) not in self.passages

        return [
            [[float(wall(i, j, 0, 1)) for j in offsets] for i in offsets],
            [[float(wall(i, j, 1, 0)) for j in offsets] for i in offsets],
            [[float(cell(i, j)) for j in offsets] for i in offsets],
        ]


def mazes(task, family):
    return [MazeByDefinition(int(t[0]), int(t[1]), family) for t in zip(*task, strict=True)]


def best_blind(family, layouts, starts):
    """Most that one can expect who doesn't know the goal: dynamic programming over all goals.

    Nothing but the rewards tells the goal, so a policy that doesn't adapt might as well know time,
    cell and layout: dynamics are deterministic, and all goals are alike.
    """
    total = 0.0
    for layout in layouts:
        games = [MazeByDefinition(layout, int(g), family) for g in family.goal.values]
        ways = [game.ways() for game in games]
        cells = [divmod(k, family.size) for k in range(family.size**2)]
        moves = {at: set(games[0].moves(at).values()) for at in cells}
        mean = {
            (at, to): sum(g.reward(at, to, w) for g, w in zip(games, ways, strict=True))
            / len(games)
            for at in cells
            for to in moves[at]
        }
        value = dict.fromkeys(cells, 0.0)
        for _ in range(family.horizon):
            value = {at: max(mean[at, to] + value[to] for to in moves[at]) for at in cells}
        total += sum(value[cells[k]] for k in starts) / len(starts)
    return total / len(layouts)


@pytest.mark.parametrize(
    "family",
    [FAMILY, Maze(dark=True, reach=2), Maze(size=4, goal=Choice((0.0, 15.0)), loops=0), gridnavi()],
    ids=["lit", "dark", "tree", "gridnavi"],
)
def test_every_step_is_that_of_the_definition(family):
    task = draw(family, 8, "test")
    games = mazes(task, family)
    ways = [game.ways() for game in games]
    state = family.reset(task, torch.rand(8, 2, 1, generator=torch.Generator().manual_seed(0)))
    for act in random_acts(family, (20, 8, 2)):
        nxt, rew, terminated = family.step(state, act, task, torch.empty(8, 2, 0))
        seen = family.observe(state)
        assert not terminated.any()
        for n, b in [(n, b) for n in range(8) for b in range(2)]:
            at = divmod(int(state.cell[n, b]), family.size)
            to = games[n].moves(at)[int(act[n, b])]
            assert divmod(int(nxt.cell[n, b]), family.size) == to
            assert_close(rew[n, b].item(), games[n].reward(at, to, ways[n]), rtol=0, atol=1e-6)
            assert seen[n, b].tolist() == games[n].planes(at)
        state = nxt


def test_episodes_start_on_each_cell_alike_or_where_one_says():
    task = make_task(FAMILY)
    noise = ((torch.arange(250) + 0.5) / 250).view(1, 250, 1)
    assert FAMILY.reset(task, noise).cell.flatten().bincount().tolist() == [10] * 25
    last = torch.tensor(1.0).nextafter(torch.tensor(0.0)).view(1, 1, 1)
    assert FAMILY.reset(task, last).cell.item() == 24
    assert (replace(FAMILY, start=7).reset(task, noise).cell == 7).all()


@pytest.mark.parametrize(("loops", "passages"), [(0.0, 24), (1.0, 40)])
def test_a_maze_is_connected_by_a_tree_and_by_loops_where_asked(loops, passages):
    for layout in range(20):
        game = MazeByDefinition(layout, 0, Maze(loops=loops))
        assert len(game.passages) == 2 * passages
        assert len(game.ways()) == 25


def test_a_share_of_the_other_walls_is_taken_out():
    """16 walls lie inside that the tree leaves; in 100 layouts about 0.3 of them are gone."""
    opened = [len(MazeByDefinition(k, 0, FAMILY).passages) // 2 - 24 for k in range(100)]
    assert abs(sum(opened) / 1600 - 0.3) < 5 * (0.3 * 0.7 / 1600) ** 0.5


def test_no_two_layouts_are_alike():
    assert len({tuple(w.tobytes() for w in walls(k, 5, 0.3)) for k in range(100)}) == 100


def test_mazes_of_validation_and_test_have_layouts_that_training_never_sees():
    parts = [{int(x) for x in draw(FAMILY, 2000, split).layout} for split in SPLITS[:3]]
    assert parts == [set(range(60)), set(range(60, 70)), set(range(70, 100))]


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_that_is_seen_depends_on_the_goal(dark):
    family = Maze(dark=dark)
    task = family.task_type(torch.full((25, 1), 80.0), torch.arange(25.0).view(25, 1))
    noise = torch.rand(1, 2, 1).expand(25, 2, 1)
    state = family.reset(task, noise)
    for act in random_acts(family, (30, 1, 2)):
        seen = family.observe(state)
        assert (seen == seen[:1]).all()
        state, _, _ = family.step(state, act.expand(25, 2), task, noise[..., :0])


def test_oracle_takes_a_shortest_way_and_stays():
    """No policy gets more: its return is that of exact dynamic programming with the goal known."""
    task = draw(FAMILY, 12, "test")
    _, rew, _ = play(FAMILY, task, FAMILY.oracle, episodes=5)
    noise = torch.rand(12, 5, 1, generator=torch.Generator().manual_seed(0))
    start = FAMILY.reset(task, noise).cell
    for n, game in enumerate(mazes(task, FAMILY)):
        ways = game.ways()
        value = dict.fromkeys(ways, 0.0)
        for _ in range(FAMILY.horizon):
            value = {
                at: max(game.reward(at, to, ways) + value[to] for to in game.moves(at).values())
                for at in ways
            }
        best = torch.tensor([value[divmod(int(c), 5)] for c in start[n]])
        assert_close(rew.sum(0)[n], best, rtol=0, atol=1e-4)


@pytest.mark.parametrize("split", SPLITS[:3])
def test_no_split_of_layouts_favours_one_who_never_adapts(split):
    layouts = [int(k) for k in FAMILY.layout.members(split)]
    assert_close(best_blind(FAMILY, layouts, range(25)), -1.28, rtol=0, atol=0.01)


def test_anchors_are_those_in_the_docstring():
    every = torch.cartesian_prod(torch.tensor(FAMILY.layout.held_out), torch.arange(25.0))
    task = FAMILY.task_type(*every.T.unsqueeze(-1).unbind())
    oracle = play(FAMILY, task, FAMILY.oracle, episodes=20)[1].sum(0).mean().item()
    assert_close(oracle, 21.85, rtol=0, atol=0.1)


def test_gridnavi_is_that_of_varibad():
    """21 goals, 1 on the goal and -0.1 elsewhere, 15 steps from a corner of an open square."""
    family = gridnavi()
    assert (family.horizon, len(family.goal.values)) == (15, 21)
    task = family.task_type(torch.zeros(1, 1), torch.full((1, 1), 12.0))
    state, got, route = family.reset(task, torch.full((1, 1, 1), 0.5)), [], [4, 1, 2, 3, 3, 2, 0, 1]
    for act in route:
        state, rew, _ = family.step(state, torch.tensor([[act]]), task, torch.empty(1, 1, 0))
        got.append(round(rew.item(), 6))
    assert got == [-0.1, -0.1, -0.1, -0.1, -0.1, 1.0, 1.0, -0.1]
    assert state.cell.item() == 7


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"size": 1}, "size=1 is out of bounds"),
        ({"loops": 1.5}, "loops=1.5 is out of bounds"),
        ({"size": 4}, "goal 24 is outside the maze"),
        ({"start": 25}, "start 25 is outside the maze"),
    ],
)
def test_constants_that_make_no_maze_are_told(wrong, words):
    with pytest.raises(UsageError, match=words):
        Maze(**wrong)


def lit(picture):
    return int((picture > 225).all(-1).sum())


def test_frame_shows_the_flag_on_the_goal_and_dims_what_is_dark():
    tasks = [make_task(FAMILY, layout=75, goal=g) for g in (0, 24)]
    state = FAMILY.reset(tasks[0], torch.full((1, 1, 1), 0.5))
    first, last = (FAMILY.frame(state, task) for task in tasks)
    red = [(p == (214, 64, 60)).all(-1) for p in (first, last)]
    assert red[0][:70, :70].sum() == red[0].sum() > 200
    assert red[1][-70:, -70:].sum() == red[1].sum() > 200
    dark = Maze(dark=True).frame(state, tasks[0])
    assert 0.25 < lit(dark) / lit(first) < 0.45  # 9 cells of 25
