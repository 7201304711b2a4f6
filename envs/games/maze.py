"""A maze with a hidden goal and, optionally, hidden walls."""

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

    layout: Tensor  # index of the wall layout
    goal: Tensor  # cell, row * size + column


class State(NamedTuple):
    """B episodes of each of N tasks. Every field: (N, B)."""

    layout: Tensor
    cell: Tensor  # cell of the agent


@dataclass(frozen=True)
class Maze:
    """Find a hidden goal in a maze and stay there.

    A layout is a random spanning tree of `size` x `size` cells, with a share `loops` of the
    remaining walls removed. By default the layout is visible and only the goal is hidden; with
    `dark` both are hidden. Of 100 layouts from the same distribution, each with any goal, 60 are
    for training, 10 for validation and 30 for test.

    Action: stay, up, right, down or left; walls block moves.
    Observation: three binary planes with the agent in the middle: a wall to the right of each cell,
    a wall below each cell, and the cells of the maze (which reveal the agent's position). With
    `dark`, walls of cells more than `reach` rows or columns away are hidden.
    Reward: 1 on the goal and -`cost` elsewhere, plus `hint` times the decrease of the shortest-path
    distance to the goal.
    Start: a uniform cell, or `start`.
    End: after `horizon` steps.

    Reference returns, computed by tests: the best policy that never adapts, found by dynamic
    programming over all goals, gets -1.28 on test layouts, and the same on the others. The oracle
    takes a shortest path, which is optimal: 21.9.

    Source: GridNavi of VariBAD (arXiv:1910.08348), with walls, any start and hints; `gridnavi()`
    is the original.
    """

    layout: Choice = Choice(
        tuple(float(i) for i in range(100)),
        held_out=tuple(float(i) for i in range(70, 100)),
        validation=tuple(float(i) for i in range(60, 70)),
    )
    goal: Choice = Choice(tuple(float(i) for i in range(25)))
    dark: bool = False  # only nearby walls are visible
    reach: int = 1  # rows and columns around the agent that are visible with `dark`
    size: int = 5  # cells per side
    loops: float = 0.3  # share of walls removed from the spanning tree's maze; 1 removes all
    cost: float = 0.1  # per step that doesn't end on the goal
    hint: float = 0.1  # per cell of decrease in distance
    start: int = -1  # cell where every episode starts; -1 for random
    horizon: int = 25  # steps

    name: ClassVar[str] = "maze"
    visible: ClassVar[tuple[str, ...]] = ("layout",)  # intentionally observable at reset
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
                    f"Maze(size={self.size}): {what} {cell:g} is outside the maze: give cells in "
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
        """Look up the planes in a table, since only the agent moves."""
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
        """First move of a shortest path to the goal, or stay there; optimal; (N, B)."""
        tables = self._tables(state.cell.device)
        reached = tables.leads[state.layout, state.cell]  # (N, B, 5)
        way = tables.way[state.layout.unsqueeze(-1), reached, task.goal.long().unsqueeze(-1)]
        return way.argmin(-1)

    def _tables(self, device: torch.device) -> Tables:
        count = int(max(self.layout.values)) + 1
        return _tables(count, self.size, self.loops, self.reach if self.dark else None, device)

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """Top view of the maze with the goal as a flag; cells hidden by `dark` are dimmed."""
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
        for dx in (-0.1, 0.1):
            spot = middle[0] + dx * side, middle[1] - 0.05 * side
            canvas.disc(*spot, side * 0.06, (255, 255, 255))
        return canvas.array()


FLAG = ((90, 70, 60), (214, 64, 60))


def gridnavi() -> Maze:
    """VariBAD's GridNavi: 5 x 5 cells, no walls, start in a corner, goal in one of 21 far cells."""
    far = tuple(float(c) for c in range(25) if c not in (0, 1, 5, 6))
    return Maze(Choice((0.0,)), Choice(far), size=5, loops=1.0, hint=0.0, start=0, horizon=15)


def walls(layout: int, size: int, loops: float) -> tuple[np.ndarray[Any, Any], ...]:
    """Walls to the right of each cell and below each cell: two (size, size) bool arrays.

    Kruskal's algorithm visits inner walls in random order and removes those between two separate
    regions. A share `loops` of all others is also removed.
    """
    rng = random.Random(layout)  # random() is reproducible across Python versions
    right, below = np.ones((size, size), bool), np.ones((size, size), bool)
    inner = [(i, j, 0, 1) for i in range(size) for j in range(size - 1)]
    inner += [(i, j, 1, 0) for i in range(size - 1) for j in range(size)]
    region = np.arange(size * size).reshape(size, size)
    for _, _, (i, j, down, across) in sorted((rng.random(), k, w) for k, w in enumerate(inner)):
        here, there = region[i, j], region[i + down, j + across]
        if here != there or rng.random() < loops:
            (below if down else right)[i, j] = False
        region[region == there] = here
    return right, below


class Tables(NamedTuple):
    """Lookup tables of L layouts with C cells."""

    leads: Tensor  # (L, C, 5) next cell after each action
    way: Tensor  # (L, C, C) length of the shortest path between two cells
    view: Tensor  # (L, C, 3, 2 * size - 1, 2 * size - 1) observation at each cell


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
    """Observations (L, C, 3, 2n - 1, 2n - 1) at each cell, from wall planes (L, 2, n, n)."""
    count, _, n, _ = planes.shape
    far = n - 1
    padded = np.zeros((count, 3, n + 2 * far, n + 2 * far), bool)
    inside = slice(far, far + n)
    padded[:, :2, inside, inside] = planes
    padded[:, 0, inside, far - 1] = True  # outer walls left of the first column
    padded[:, 1, far - 1, inside] = True  # and above the first row
    padded[:, 2, inside, inside] = True
    windows = np.lib.stride_tricks.sliding_window_view(padded, (n + far, n + far), axis=(2, 3))
    away = abs(np.arange(-far, n))
    lit = np.maximum(away[:, None], away) <= reach
    visible = np.moveaxis(windows, 1, 3) & np.stack((lit, lit, np.ones_like(lit)))
    return np.asarray(visible.reshape(count, n * n, 3, n + far, n + far))


def _near(size: int, reach: int) -> np.ndarray[Any, Any]:
    """(C, C) bool: cells at most `reach` rows and columns away."""
    row, column = np.divmod(np.arange(size * size), size)
    far = np.maximum(abs(row[:, None] - row), abs(column[:, None] - column))
    return np.asarray(far <= reach)
