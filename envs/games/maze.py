"""A maze with a goal that is never shown, in the light or in the dark."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Discrete, MultiBinary
from torch import Tensor

from metarl.envs.core.errors import UsageError
from metarl.envs.core.lookup_tables import table
from metarl.envs.core.parameters import Choice
from metarl.envs.core.value_limits import HORIZON, check_constants

MOVES = ((0, 0), (-1, 0), (0, 1), (1, 0), (0, -1))  # rows, columns: stay, up, right, down, left


class Task(NamedTuple):
    """Mazes of N tasks. Every field: (N, 1)."""

    layout: Tensor  # number of the maze's walls
    goal: Tensor  # cell, row * size + column


class State(NamedTuple):
    """B episodes of each of N tasks. Every field: (N, B)."""

    layout: Tensor
    cell: Tensor  # where the agent is


@dataclass(frozen=True)
class Maze:
    """Find a place in a maze that is never shown, and stay there.

    A layout is a random spanning tree of `size` x `size` cells, with a share `loops` of the walls
    that it leaves taken out. In the light the agent sees the layout and only the goal is hidden; in
    the `dark` both are. Of 100 layouts, each with any goal, 60 are for training, 10 for validation
    and 30 for test; all are drawn alike.

    Action: stay, up, right, down or left; a wall stops.
    Observation: three planes of bits, the agent in the middle: a wall right of each cell, a wall
    below each cell, the cells of the maze (from which the agent knows where it is). In the `dark`
    the walls of cells more than `reach` rows or columns away are not seen.
    Reward: 1 on the goal and -`cost` elsewhere, and `hint` for each cell of way that the step saved
    or, negative, added: warmer, colder.
    Start: on any cell alike, or on `start`.
    End: after `horizon` steps.
    Anchors: who never adapts can't know the goal; the best that one can then do, by dynamic
    programming over all goals, is -1.28 on the test layouts, and as much on the others. The oracle
    takes a shortest way, which is optimal: 21.9. Tests compute both.
    Source: GridNavi of VariBAD (arXiv:1910.08348), with walls, any start and hints; `gridnavi()`
    is the original.
    """

    layout: Choice = Choice(
        tuple(float(i) for i in range(100)),
        held_out=tuple(float(i) for i in range(70, 100)),
        validation=tuple(float(i) for i in range(60, 70)),
    )
    goal: Choice = Choice(tuple(float(i) for i in range(25)))
    dark: bool = False  # the agent sees the walls near to it alone
    reach: int = 1  # rows and columns that it sees around its own in the dark
    size: int = 5  # cells along each side
    loops: float = 0.3  # of the walls that a tree leaves, how many are taken out; 1 leaves none
    cost: float = 0.1  # of each step that does not end on the goal
    hint: float = 0.1  # for each cell nearer
    start: int = -1  # cell where every episode starts; -1 is any
    horizon: int = 25  # steps

    name: ClassVar[str] = "maze"
    visible: ClassVar[tuple[str, ...]] = ("layout",)  # in the first observation, by design
    source: ClassVar[str] = "GridNavi of VariBAD, arXiv:1910.08348, with walls"
    task_type: ClassVar[type] = Task
    reset_noise: ClassVar[int] = 1
    step_noise: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_constants(
            self,
            layout=(0, 999),
            goal=(0, 255),
            reach=(0, 16),
            size=(2, 16),
            loops=(0, 1),
            cost=(0, 1e6),
            hint=(0, 1e6),
            start=(-1, 255),
            horizon=HORIZON,
        )
        cells = self.size**2
        for what, cell in (("goal", max(self.goal.values)), ("start", max(self.start, 0))):
            if not 0 <= cell < cells:
                raise UsageError(
                    f"Maze(size={self.size}): {what} {cell:g} is no cell: give cells in "
                    f"[0, {cells - 1}]."
                )

    @property
    def observation_space(self) -> MultiBinary:
        return MultiBinary((3, 2 * self.size - 1, 2 * self.size - 1))

    @property
    def action_space(self) -> Discrete:
        return Discrete(len(MOVES))

    def reset(self, task: Task, noise: Tensor) -> State:
        cell = (noise[..., 0] * self.size**2).long()
        if self.start >= 0:
            cell = torch.full_like(cell, self.start)
        return State(task.layout.long().expand_as(cell), cell)

    def observe(self, state: State) -> Tensor:
        """Bits from a table: nothing but the agent ever moves."""
        view = self._tables(state.cell.device).view
        return view[state.layout, state.cell].to(torch.get_default_dtype())

    def step(
        self, state: State, act: Tensor, task: Task, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        tables, goal = self._tables(state.cell.device), task.goal.long()
        cell = tables.leads[state.layout, state.cell, act]
        before, after = (tables.way[state.layout, c, goal] for c in (state.cell, cell))
        saved = (before - after).to(task.goal.dtype)
        rew = self.hint * saved + torch.where(after == 0, 1.0, -self.cost)
        return State(state.layout, cell), rew, torch.zeros_like(cell, dtype=torch.bool)

    def oracle(self, state: State, task: Task) -> Tensor:
        """The first move of a shortest way to the goal, or to stay there; optimal; (N, B)."""
        tables = self._tables(state.cell.device)
        reached = tables.leads[state.layout, state.cell]  # (N, B, 5)
        way = tables.way[state.layout.unsqueeze(-1), reached, task.goal.long().unsqueeze(-1)]
        return way.argmin(-1)

    def _tables(self, device: torch.device) -> Tables:
        count = int(max(self.layout.values)) + 1
        return _tables(count, self.size, self.loops, self.reach if self.dark else None, device)

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """The maze from above with its flag; in the dark, what the agent doesn't see is dim."""
        from metarl.envs.core.canvas import Canvas

        n, side, edge = self.size, 324 // self.size, 6
        layout, at = int(state.layout[0, 0]), int(state.cell[0, 0])
        right, below = walls(layout, n, self.loops)
        near = _near(n, self.reach)[at].reshape(n, n) if self.dark else np.ones((n, n), bool)
        canvas = Canvas(n * side + 2 * edge, n * side + 2 * edge, (52, 58, 78))

        def corner(cell: int) -> tuple[int, int]:
            return edge + cell % n * side, edge + cell // n * side

        for i, j in product(range(n), repeat=2):
            x, y = corner(i * n + j)
            canvas.box(x, y, x + side, y + side, (246, 240, 226) if near[i, j] else (150, 150, 160))
        for i, j in product(range(n), repeat=2):
            x, y = corner(i * n + j)
            dark = (52, 58, 78) if near[i, j] else (104, 106, 122)
            if right[i, j] and j < n - 1:
                canvas.line((x + side, y - 2), (x + side, y + side + 2), 5, dark)
            if below[i, j] and i < n - 1:
                canvas.line((x - 2, y + side), (x + side + 2, y + side), 5, dark)
        x, y = corner(int(task.goal[0, 0]))
        canvas.line((x + side * 0.3, y + side * 0.12), (x + side * 0.3, y + side * 0.9), 4, FLAG[0])
        canvas.box(x + side * 0.3, y + side * 0.12, x + side * 0.8, y + side * 0.45, FLAG[1])
        middle = [c + side / 2 for c in corner(at)]
        canvas.disc(middle[0], middle[1], side * 0.27, (40, 90, 200))
        for eye in (-0.1, 0.1):
            spot = middle[0] + eye * side, middle[1] - 0.05 * side
            canvas.disc(*spot, side * 0.06, (255, 255, 255))
        return canvas.array()


FLAG = ((90, 70, 60), (214, 64, 60))


def gridnavi() -> Maze:
    """VariBAD's own: 5 x 5 cells without walls, from a corner to one of 21 cells not near to it."""
    far = tuple(float(c) for c in range(25) if c not in (0, 1, 5, 6))
    return Maze(Choice((0.0,)), Choice(far), size=5, loops=1.0, hint=0.0, start=0, horizon=15)


def walls(layout: int, size: int, loops: float) -> tuple[np.ndarray[Any, Any], ...]:
    """Whether there is a wall right of each cell, and below each cell: two (size, size) bool.

    Inner walls are visited in a random order (Kruskal's algorithm); one that parts two regions is
    taken out, and of all others a share `loops`.
    """
    luck = random.Random(layout)  # its random() is the same in all versions of Python
    right, below = np.ones((size, size), bool), np.ones((size, size), bool)
    inner = [(i, j, 0, 1) for i in range(size) for j in range(size - 1)]
    inner += [(i, j, 1, 0) for i in range(size - 1) for j in range(size)]
    region = np.arange(size * size).reshape(size, size)
    for _, _, (i, j, down, across) in sorted((luck.random(), k, w) for k, w in enumerate(inner)):
        here, there = region[i, j], region[i + down, j + across]
        if here != there or luck.random() < loops:
            (below if down else right)[i, j] = False
        region[region == there] = here
    return right, below


class Tables(NamedTuple):
    """Of L layouts with C cells."""

    leads: Tensor  # (L, C, 5) the cell to which each action leads
    way: Tensor  # (L, C, C) steps of the shortest way between two cells
    view: Tensor  # (L, C, 3, 2 * size - 1, 2 * size - 1) bits that an agent on each cell sees


@table
def _tables(count: int, size: int, loops: float, reach: int | None, device: torch.device) -> Tables:
    cells = size * size
    planes = np.stack([np.stack(walls(k, size, loops)) for k in range(count)])  # (L, 2, n, n)
    right, below = planes.reshape(count, 2, cells).transpose(1, 0, 2)
    here = np.arange(cells)
    leads = np.broadcast_to(here[:, None], (count, cells, len(MOVES))).copy()
    leads[..., 2] += ~right
    leads[..., 3] += size * ~below
    leads[:, 1:, 4] -= ~right[:, :-1]
    leads[:, size:, 1] -= size * ~below[:, :-size]

    way = np.full((count, cells, cells), -1)
    way[:, here, here] = 0
    for length in range(1, cells):
        found = (way[np.arange(count)[:, None, None], leads] == length - 1).any(-2)
        way[(way < 0) & found] = length

    view = _views(planes, cells if reach is None else reach)
    return Tables(*(torch.from_numpy(x).to(device) for x in (leads, way, view)))


def _views(planes: np.ndarray[Any, Any], reach: int) -> np.ndarray[Any, Any]:
    """(L, C, 3, 2n - 1, 2n - 1) bits that are seen from each cell. Args: planes (L, 2, n, n)."""
    count, _, n, _ = planes.shape
    far = n - 1
    world = np.zeros((count, 3, n + 2 * far, n + 2 * far), bool)
    inside = slice(far, far + n)
    world[:, :2, inside, inside] = planes
    world[:, 0, inside, far - 1] = True  # the outer wall, left of and above the first cells
    world[:, 1, far - 1, inside] = True
    world[:, 2, inside, inside] = True
    windows = np.lib.stride_tricks.sliding_window_view(world, (n + far, n + far), axis=(2, 3))
    away = abs(np.arange(-far, n))
    lit = np.maximum(away[:, None], away) <= reach
    seen = np.moveaxis(windows, 1, 3) & np.stack((lit, lit, np.ones_like(lit)))
    return np.asarray(seen.reshape(count, n * n, 3, n + far, n + far))


def _near(size: int, reach: int) -> np.ndarray[Any, Any]:
    """(C, C) bool: cells at most `reach` rows and columns away."""
    row, column = np.divmod(np.arange(size * size), size)
    far = np.maximum(abs(row[:, None] - row), abs(column[:, None] - column))
    return np.asarray(far <= reach)
