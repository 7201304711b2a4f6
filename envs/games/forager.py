"""The default game: gather food; the values of items and the action mapping are hidden."""

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
KEYMAPS = tuple(permutations(range(4)))  # KEYMAPS[keys][action] is an index into MOVES
VALUES = (-1.0, 0.0, 1.0)  # poison, nothing, food


class Task(NamedTuple):
    """Hidden rules of N games. Every field: (N, 1)."""

    berry: Tensor  # reward for eating a berry
    mushroom: Tensor
    pebble: Tensor
    keys: Tensor  # index into KEYMAPS


class State(NamedTuple):
    """B episodes of each of N tasks, in the agent's frame, with the agent at the center."""

    cells: Tensor  # (N, B, size * size) 0 empty, 1 berry, 2 mushroom, 3 pebble
    pos: Tensor  # (N, B, 2) absolute row and column, used for rendering only


@dataclass(frozen=True)
class Forager:
    """Walk on a torus of `size` x `size` cells and eat food; what is food is hidden.

    There are three kinds of items, `count` of each. In every variant one kind is food (+1), one
    poison (-1) and one neutral (0), and the four actions map to the four moves by one of 24
    permutations: 144 variants. They are split in pairs, a variant and the one with the opposite
    values under the same permutation: 72 for training, 24 for validation, 48 for test. Each split
    has each of the six assignments of values equally often, training and test have every
    permutation, and in each split every action makes each of the four moves equally often. The 144
    extrapolation variants have no neutral kind, but two kinds of food or two of poison, under each
    permutation.

    Action: 0 to 3. Observation: (3, view, view) bits, a plane for each kind of item, with the agent
    in the middle. Reward: the value of the item on the cell entered; the item reappears on a random
    empty cell. End: after `horizon` steps.

    Reference returns, computed by tests: a policy that neither adapts nor observes rewards can't
    beat 0, on any split and for any permutation. Observations do not depend on the values, so
    neither does the number n_i of items of kind i that such a policy eats. A variant pays the sum
    of n_i * value_i, and the variant with the opposite values exactly the negative. This also holds
    for a policy that knows the permutation or remembers everything except its rewards. Memorizing
    training variants misleads: a permutation occurs with one or two choices of the neutral kind in
    training, and with another in test. The oracle knows the rules and searches every path of
    `lookahead` moves: 29.7 (34.7 in extrapolation).
    """

    berry: Choice = Choice(VALUES)
    mushroom: Choice = Choice(VALUES)
    pebble: Choice = Choice(VALUES)
    keys: Choice = Choice(tuple(float(k) for k in range(len(KEYMAPS))))
    size: int = 6  # cells per side of the torus
    view: int = 5  # cells per side of the observation, odd
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
        """All variants of a split, fields (M, 1)."""
        return _members(split, torch.device(device))

    def reset(self, task: Task, noise: Tensor) -> State:
        """Place items on distinct random cells, except the agent's."""
        middle = self._middle
        order = noise.index_fill(-1, torch.full((1,), middle, device=noise.device), 2.0).argsort(-1)
        rank = order.argsort(-1)  # a uniform permutation with the agent's cell last
        cells = torch.where(rank < 3 * self.count, rank // self.count + 1, 0)
        return State(cells, cells.new_full((*noise.shape[:2], 2), self.size // 2))

    def observe(self, state: State) -> Tensor:
        visible = state.cells[..., _window(self.size, self.view, state.cells.device)]
        kinds = torch.arange(1, 4, device=visible.device).view(3, 1)
        planes = (visible.unsqueeze(-2) == kinds).to(torch.get_default_dtype())
        image: Tensor = planes.unflatten(-1, (self.view, self.view))
        return image

    def step(
        self, state: State, act: Tensor, task: Task, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        device = state.cells.device
        keymaps, moves, shifts = _tables(self.size, device)
        move = keymaps[task.keys.long(), act]
        cells = state.cells.gather(-1, shifts[move])
        eaten = cells[..., self._middle]
        worth = torch.stack((torch.zeros_like(task.berry), *task[:3]), dim=-1)  # (N, 1, 4)
        rew = worth.expand(*eaten.shape, 4).gather(-1, eaten.unsqueeze(-1)).squeeze(-1)

        # The eaten item reappears on the r-th empty cell, r uniform, but never under the agent.
        cells = cells.index_fill(-1, torch.full((1,), self._middle, device=device), -1)
        empty = cells == 0
        rank = (noise * empty.sum(-1, keepdim=True)).long()
        spot = empty & (empty.cumsum(-1) == rank + 1)
        cells = torch.where(spot, eaten.unsqueeze(-1), cells).clamp(min=0)
        pos = (state.pos + moves[move]) % self.size
        return State(cells, pos), rew, torch.zeros_like(rew, dtype=torch.bool)

    def oracle(self, state: State, task: Task) -> Tensor:
        """First action of the best path of `lookahead` moves under the true rules; (N, B)."""
        worth = torch.stack((torch.zeros_like(task.berry), *task[:3]), dim=-1)
        value = worth.expand(*state.cells.shape[:2], 4).gather(-1, state.cells)
        best = (value @ _paths(self.size, self.lookahead, value.device).to(value.dtype)).argmax(-1)
        move = best // 4 ** (self.lookahead - 1)
        keymap = _tables(self.size, value.device)[0][task.keys.long().squeeze(-1)]
        act: Tensor = (keymap.unsqueeze(1) == move.unsqueeze(-1)).long().argmax(-1)
        return act

    @property
    def _middle(self) -> int:
        return (self.size // 2) * self.size + self.size // 2

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """Top view of the torus; visible cells are lit, signs show the values of items."""
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
    """All variants of a split; variants with opposite values are always in the same split."""
    if split == "extrapolate":
        values = [v for v in product((-1.0, 1.0), repeat=3) if len(set(v)) == 2]
        chosen = [(*v, k) for v in values for k in range(24)]
    else:
        chosen = [
            (*v, k)
            for v, k in product(permutations(VALUES), range(24))
            if _split_of(v.index(0.0), KEYMAPS[k]) == split
        ]
    return Task(*torch.tensor(chosen, dtype=torch.float32).to(device).T.unsqueeze(-1).unbind())


def _split_of(neutral: int, keymap: tuple[int, ...]) -> Split:
    """The split of the two variants with this neutral kind and permutation.

    The 24 permutations form six cycles of the moves with four rotations each, in which every action
    makes each move once. Each cycle has one pair in test; three of the six have one in validation.
    """
    first = keymap.index(0)
    cycle = list(permutations((1, 2, 3))).index(keymap[first + 1 :] + keymap[:first])
    if neutral == cycle % 3:
        return "test"
    return "validation" if cycle < 3 and neutral == (cycle + 1) % 3 else "train"


@table
def _tables(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Action to move (24, 4), move to displacement (4, 2), move to cell order (4, size * size)."""
    grid = torch.arange(size * size).view(size, size)
    shifts = torch.stack([grid.roll((-dy, -dx), (0, 1)).flatten() for dy, dx in MOVES])
    tables = torch.tensor(KEYMAPS), torch.tensor(MOVES), shifts
    return tuple(t.to(device) for t in tables)  # type: ignore[return-value]


@table
def _window(size: int, view: int, device: torch.device) -> Tensor:
    """Indices of the visible cells, (view * view,)."""
    reach = torch.arange(-(view // 2), view // 2 + 1) + size // 2
    return (reach[:, None] * size + reach).flatten().to(device)


@lru_cache
def _paths(size: int, length: int, device: torch.device) -> Tensor:
    """Gain (size * size, 4 ** length) of each path per unit of value on each cell.

    Only the first visit of a cell counts, discounted by its time, so that of two paths with the
    same items the faster one is better.
    """
    gain = np.zeros((size * size, 4**length), np.float32)
    for p, path in enumerate(product(MOVES, repeat=length)):
        row = column = size // 2
        visited = {(row, column)}
        for step, (dy, dx) in enumerate(path):
            row, column = (row + dy) % size, (column + dx) % size
            if (row, column) not in visited:
                gain[row * size + column, p] = 0.9**step
            visited.add((row, column))
    return torch.from_numpy(gain).to(device)
