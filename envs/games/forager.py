"""The default game: gather food in a world whose items and whose keys have to be found out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Discrete, MultiBinary
from torch import Tensor

from metarl.envs.core.errors import UsageError
from metarl.envs.core.lookup_tables import table
from metarl.envs.core.parameters import Choice
from metarl.envs.core.splits import Split
from metarl.envs.core.value_limits import HORIZON, check_constants

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # rows and columns: up, down, left, right
KEYMAPS = tuple(permutations(range(4)))  # KEYMAPS[keys][key] is an index of MOVES
VALUES = (-1.0, 0.0, 1.0)  # poison, nothing, food


class Task(NamedTuple):
    """Hidden rules of N games. Every field: (N, 1)."""

    berry: Tensor  # reward for eating one
    mushroom: Tensor
    pebble: Tensor
    keys: Tensor  # index into KEYMAPS


class State(NamedTuple):
    """B episodes of each of N tasks, in the agent's own frame: it is always at the centre."""

    cells: Tensor  # (N, B, size * size) 0 empty, 1 berry, 2 mushroom, 3 pebble
    pos: Tensor  # (N, B, 2) row and column in the world; pictures need it, the dynamics don't


@dataclass(frozen=True)
class Forager:
    """Walk on a torus of `size` x `size` cells and eat what is good.

    Three kinds of item, `count` of each. In every variant one kind is food (+1), one poison (-1)
    and one worth nothing, and the four keys are wired to the four moves in one of 24 ways: 144
    variants. They are split in pairs, a variant and the one with the opposite worths under the same
    wiring: 72 for training, 24 for validation, 48 for test. Each split has each of the six meanings
    equally often, training and test have every wiring, and in each split every key makes each of
    the four moves equally often. Extrapolation, 144 variants: no kind is worth nothing, two are
    food or two are poison, under each wiring.

    Action: one of 4 keys. Observation: (3, view, view) bits, a plane for each kind of item, the
    agent in the middle. Reward: worth of the item on the cell that is entered; it grows again
    on a random empty cell. End: after `horizon` steps.

    Anchors: a policy that neither adapts nor remembers can't beat 0, on any split, for any wiring.
    What is seen does not depend on the worths, so neither do the items that such a policy eats:
    n_i of kind i, of which a variant pays the sum of n_i * worth_i, and the one with the opposite
    worths exactly the negative. This holds also for one that is told the wiring, or remembers all
    but its rewards. What remains is for agents that adapt: in training, a wiring goes with one or
    two kinds as the worthless one, in test with another, so learning this by heart misleads. The
    oracle is told the rules and searches every path of `lookahead` moves: 29.7 (extrapolation:
    34.7). Tests compute all of it.
    """

    berry: Choice = Choice(VALUES)
    mushroom: Choice = Choice(VALUES)
    pebble: Choice = Choice(VALUES)
    keys: Choice = Choice(tuple(float(k) for k in range(len(KEYMAPS))))
    size: int = 6  # cells along each side of the world
    view: int = 5  # cells along each side of what the agent sees, odd
    count: int = 5  # items of each kind
    lookahead: int = 5  # moves that the oracle plans
    horizon: int = 50  # steps

    name: ClassVar[str] = "forager"
    source: ClassVar[str] = "metarl's own"
    task_type: ClassVar[type] = Task
    step_noise: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_constants(
            self,
            berry=(-1, 1),
            mushroom=(-1, 1),
            pebble=(-1, 1),
            keys=(0, len(KEYMAPS) - 1),
            size=(3, 32),
            view=(1, 31),
            count=(1, 1000),
            lookahead=(1, 6),
            horizon=HORIZON,
        )
        if self.view % 2 == 0 or self.view > self.size or 3 * self.count >= self.size**2:
            raise UsageError(
                f"Forager(size={self.size}, view={self.view}, count={self.count}): give an odd "
                "view of at most size, and fewer than size * size / 3 items of each kind."
            )

    @property
    def reset_noise(self) -> int:
        return self.size**2

    @property
    def observation_space(self) -> MultiBinary:
        return MultiBinary((3, self.view, self.view))

    @property
    def action_space(self) -> Discrete:
        return Discrete(4)

    def members(self, split: Split, device: torch.device | str = "cpu") -> Task:
        """Every variant of a split, fields (M, 1)."""
        return _members(split, torch.device(device))

    def reset(self, task: Task, noise: Tensor) -> State:
        """The agent in the middle of its frame, items on distinct other cells."""
        middle = self._middle
        order = noise.index_fill(-1, torch.full((1,), middle, device=noise.device), 2.0).argsort(-1)
        rank = order.argsort(-1)  # uniform permutation; the agent's own cell comes last
        cells = torch.where(rank < 3 * self.count, rank // self.count + 1, 0)
        return State(cells, cells.new_full((*noise.shape[:2], 2), self.size // 2))

    def observe(self, state: State) -> Tensor:
        seen = state.cells[..., _window(self.size, self.view, state.cells.device)]
        kinds = torch.arange(1, 4, device=seen.device).view(3, 1)
        planes = (seen.unsqueeze(-2) == kinds).to(torch.get_default_dtype())
        image: Tensor = planes.unflatten(-1, (self.view, self.view))
        return image

    def step(
        self, state: State, act: Tensor, task: Task, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        device = state.cells.device
        wiring, moves, shifts = _tables(self.size, device)
        move = wiring[task.keys.long(), act]
        cells = state.cells.gather(-1, shifts[move])
        eaten = cells[..., self._middle]
        worth = torch.stack((torch.zeros_like(task.berry), *task[:3]), dim=-1)  # (N, 1, 4)
        rew = worth.expand(*eaten.shape, 4).gather(-1, eaten.unsqueeze(-1)).squeeze(-1)

        # What was eaten grows again on the r-th empty cell, r uniform; never under the agent.
        cells = cells.index_fill(-1, torch.full((1,), self._middle, device=device), -1)
        empty = cells == 0
        rank = (noise * empty.sum(-1, keepdim=True)).long()
        spot = empty & (empty.cumsum(-1) == rank + 1)
        cells = torch.where(spot, eaten.unsqueeze(-1), cells).clamp(min=0)
        pos = (state.pos + moves[move]) % self.size
        return State(cells, pos), rew, torch.zeros_like(rew, dtype=torch.bool)

    def oracle(self, state: State, task: Task) -> Tensor:
        """The key that starts the best path of `lookahead` moves, given the rules; (N, B)."""
        worth = torch.stack((torch.zeros_like(task.berry), *task[:3]), dim=-1)
        value = worth.expand(*state.cells.shape[:2], 4).gather(-1, state.cells)
        best = (value @ _paths(self.size, self.lookahead, value.device).to(value.dtype)).argmax(-1)
        move = best // 4 ** (self.lookahead - 1)
        wiring = _tables(self.size, value.device)[0][task.keys.long().squeeze(-1)]
        key: Tensor = (wiring.unsqueeze(1) == move.unsqueeze(-1)).long().argmax(-1)
        return key

    @property
    def _middle(self) -> int:
        return (self.size // 2) * self.size + self.size // 2

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """The world from above, what the agent sees in the light; signs show what is worth what."""
        from metarl.envs.core.canvas import Canvas

        side, middle = 36, self.size // 2
        canvas = Canvas(self.size * side, self.size * side, (58, 70, 60))
        row, column = state.pos[0, 0].tolist()
        cells = state.cells[0, 0].view(self.size, self.size).tolist()
        worth = [0.0, *(float(t[0, 0]) for t in task[:3])]
        for i, j in product(range(self.size), repeat=2):
            x, y = (column + j - middle) % self.size * side, (row + i - middle) % self.size * side
            lit = max(abs(i - middle), abs(j - middle)) <= self.view // 2
            ground = (222, 232, 214) if lit else (150, 162, 146)
            canvas.box(x + 1, y + 1, x + side - 1, y + side - 1, ground, radius=4)
            if kind := cells[i][j]:
                _draw_item(canvas, x + side / 2, y + side / 2, kind, worth[kind])
        x, y = (column + 0.5) * side, (row + 0.5) * side
        canvas.disc(x, y, 13, (40, 90, 200))
        canvas.disc(x - 5, y - 3, 3, (255, 255, 255))
        canvas.disc(x + 5, y - 3, 3, (255, 255, 255))
        return canvas.array()


def _draw_item(canvas: Any, x: float, y: float, kind: int, worth: float) -> None:
    if kind == 1:
        for dx, dy in ((-5, 3), (5, 3), (0, -5)):
            canvas.disc(x + dx, y + dy, 6, (190, 50, 90))
    elif kind == 2:
        canvas.box(x - 4, y - 1, x + 4, y + 11, (240, 225, 200), radius=3)
        canvas.disc(x, y - 3, 9, (210, 120, 50))
    else:
        canvas.box(x - 9, y - 6, x + 9, y + 7, (125, 125, 135), radius=6)
    if worth:
        canvas.line((x - 5, y), (x + 5, y), 2.5, (255, 255, 255))
    if worth > 0:
        canvas.line((x, y - 5), (x, y + 5), 2.5, (255, 255, 255))


@lru_cache
def _members(split: Split, device: torch.device) -> Task:
    """A meaning never goes without its opposite under the same wiring, or the split would leak."""
    if split == "extrapolate":
        meanings = [m for m in product((-1.0, 1.0), repeat=3) if len(set(m)) == 2]
        chosen = [(*m, k) for m in meanings for k in range(24)]
    else:
        chosen = [
            (*m, k)
            for m, k in product(permutations(VALUES), range(24))
            if _split_of(m.index(0.0), KEYMAPS[k]) == split
        ]
    return Task(*torch.tensor(chosen, dtype=torch.float32).to(device).T.unsqueeze(-1).unbind())


def _split_of(worthless: int, wiring: tuple[int, ...]) -> Split:
    """That of the two variants in which this kind of item is worth nothing.

    The 24 wirings are six cycles of the moves, each turned four ways in which every key makes each
    move once. A cycle has one pair in test; three of the six have another one in validation.
    """
    first = wiring.index(0)
    cycle = list(permutations((1, 2, 3))).index(wiring[first + 1 :] + wiring[:first])
    if worthless == cycle % 3:
        return "test"
    return "validation" if cycle < 3 and worthless == (cycle + 1) % 3 else "train"


@table
def _tables(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Key to move (24, 4); move to step (4, 2); move to new cell order (4, size * size)."""
    grid = torch.arange(size * size).view(size, size)
    shifts = torch.stack([grid.roll((-dy, -dx), (0, 1)).flatten() for dy, dx in MOVES])
    tables = torch.tensor(KEYMAPS), torch.tensor(MOVES), shifts
    return tuple(t.to(device) for t in tables)  # type: ignore[return-value]


@table
def _window(size: int, view: int, device: torch.device) -> Tensor:
    """Indices of the cells that the agent sees, (view * view,)."""
    reach = torch.arange(-(view // 2), view // 2 + 1) + size // 2
    return (reach[:, None] * size + reach).flatten().to(device)


@lru_cache
def _paths(size: int, length: int, device: torch.device) -> Tensor:
    """(size * size, 4 ** length): how much a path gains for each unit of worth on a cell.

    A cell pays on its first visit only, later visits of a path a little less, so that of two
    paths with the same items the one that eats sooner wins.
    """
    gain = np.zeros((size * size, 4**length), np.float32)
    for p, path in enumerate(product(MOVES, repeat=length)):
        row = column = size // 2
        seen = {(row, column)}
        for step, (dy, dx) in enumerate(path):
            row, column = (row + dy) % size, (column + dx) % size
            if (row, column) not in seen:
                gain[row * size + column, p] = 0.9**step
            seen.add((row, column))
    return torch.from_numpy(gain).to(device)
