"""Snake on a board with hidden size, edge and food values."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from metarl.envs.core.errors import UsageError
from metarl.envs.core.parameters import Choice, Range
from metarl.envs.core.value_limits import HORIZON, check_constants
from metarl.envs.games.snake_board import BORN, MOVES, board_tables

KINDS = 3
EDGE = 8  # pixels around the image of the largest board


class Task(NamedTuple):
    """Hidden rules of N games. Every field: (N, 1)."""

    apple: Tensor  # reward for eating an apple
    berry: Tensor
    plum: Tensor
    size: Tensor  # cells per side of the board
    wrap: Tensor  # 1 if the board wraps around, 0 if its edge is a wall


class State(NamedTuple):
    """B episodes of each of N tasks, on a plane of `plane` x `plane` cells around the board."""

    cells: Tensor  # (N, B, plane^2) steps until the snake leaves it; -1, -2, -3 food; 0 empty
    head: Tensor  # (N, B) cell of the head
    heading: Tensor  # (N, B) index into MOVES
    length: Tensor  # (N, B) cells


@dataclass(frozen=True)
class Snake:
    """Eat food, grow and avoid collisions; food values, board size and edge are hidden.

    There are three kinds of food, three items of each. Their values differ between tasks; a
    negative value is poison. Each item eaten makes the snake one cell longer, up to `longest`. The
    board is a square in the middle of the plane; its edge kills or leads to the opposite side.

    Action: up, right, down, left; reversing moves straight on.
    Observation: five planes. The first four are centered on the head: apples, berries, plums, and
    the snake (steps until it leaves a cell, relative to `longest`). The fifth is the position of
    the head on the plane. The edge is not marked, and nothing beyond it is visible.
    Reward: the value of the item eaten, which reappears on a random empty cell; -1 for death.
    Start: in the middle, heading right; food on random other cells of the smallest board, so that
    the size isn't revealed. Items reappear anywhere on the board.
    End: when the snake hits itself or a wall, or after `horizon` steps.

    Reference returns: a policy that never adapts can't beat 0, since its path doesn't depend on the
    values, and each task has one with the opposite values. The oracle greedily maximizes value by
    distance and avoids dead ends: 9.5, which isn't optimal.

    Source: the arcade game Blockade (Gremlin, 1976) and its successors.
    """

    apple: Range = Range(-1.0, 1.0, extrapolation=(-2.0, 2.0))
    berry: Range = Range(-1.0, 1.0, extrapolation=(-2.0, 2.0))
    plum: Range = Range(-1.0, 1.0, extrapolation=(-2.0, 2.0))
    size: Choice = Choice((5.0, 6.0, 7.0), "cells")
    wrap: Choice = Choice((0.0, 1.0))
    plane: int = 7  # cells per side of the observation, odd
    count: int = 3  # items of each kind of food
    longest: int = 7  # cells, maximum length of the snake
    horizon: int = 40  # steps

    name: ClassVar[str] = "snake"
    source: ClassVar[str] = "the arcade game (Blockade, Gremlin, 1976), with hidden rules"
    task_type: ClassVar[type] = Task
    step_noise: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_constants(
            self,
            apple=(-1e6, 1e6),
            berry=(-1e6, 1e6),
            plum=(-1e6, 1e6),
            size=(4, 31),
            wrap=(0, 1),
            plane=(5, 31),
            count=(1, 1000),
            longest=(BORN, 1000),
            horizon=HORIZON,
        )
        small, large = min(self._sizes), max(self._sizes)
        if self.plane % 2 == 0 or not 4 <= small <= large <= self.plane:
            raise UsageError(
                f"Snake(plane={self.plane}, size={self.size}): give an odd plane, and sizes from "
                "4 to plane."
            )
        if self.longest < BORN or self.longest + KINDS * self.count >= small**2:
            raise UsageError(
                f"Snake(longest={self.longest}, count={self.count}): give a longest of at least "
                f"{BORN} that, with {KINDS} * count items, leaves a cell of {small:g} x {small:g} "
                "empty."
            )

    @property
    def _sizes(self) -> tuple[float, ...]:
        return self.size.values + self.size.extrapolation

    @property
    def reset_noise(self) -> int:
        return self.plane**2

    @property
    def observation_space(self) -> Box:
        return Box(0.0, 1.0, (KINDS + 2, self.plane, self.plane), np.float32)

    @property
    def action_space(self) -> Discrete:
        return Discrete(4)

    def reset(self, task: Task, noise: Tensor) -> State:
        """Place the snake in the middle and items on distinct other cells of the smallest board.

        All boards contain these cells, so the first observation does not depend on the task.
        """
        tables = board_tables(self.plane, noise.device)
        born = tables.born.to(noise.dtype)
        free = tables.board[int(min(self._sizes))] & (born == 0)
        rank = torch.where(free, noise, 2.0).argsort(-1).argsort(-1)
        item = torch.where(rank < KINDS * self.count, 1 + rank // self.count, 0)
        head = rank.new_full(noise.shape[:2], self.plane**2 // 2)
        length = noise.new_full(noise.shape[:2], BORN)
        return State(born - item, head, torch.ones_like(head), length)

    def observe(self, state: State) -> Tensor:
        tables, dtype = board_tables(self.plane, state.head.device), state.cells.dtype
        # An extra empty cell stands for all cells outside the plane.
        padded = torch.nn.functional.pad(state.cells, (0, 1))
        visible = padded.gather(-1, tables.window[state.head])
        food = [(visible == -1 - kind).to(dtype) for kind in range(KINDS)]
        here = tables.here[state.head].to(dtype)
        planes = torch.stack((*food, visible.clamp(min=0) / self.longest, here), dim=-2)
        image: Tensor = planes.unflatten(-1, (self.plane, self.plane))
        return image

    def step(
        self, state: State, act: Tensor, task: Task, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        tables, size = board_tables(self.plane, act.device), task.size.long()
        back = (act - state.heading).abs() == 2
        heading = torch.where(back, state.heading, act)
        entered = tables.leads[size, task.wrap.long(), state.head, heading]
        wall = entered < 0
        head = torch.where(wall, state.head, entered)
        at = head.unsqueeze(-1)
        item = state.cells.gather(-1, at).clamp(max=0)  # (N, B, 1)
        grows = (item.squeeze(-1) < 0) & (state.length < self.longest)

        # The tail leaves its cell before the head arrives, so the head may follow it directly.
        ages = (state.cells > 0) & ~grows.unsqueeze(-1)
        cells = state.cells - ages.to(item.dtype)
        dies = wall | (cells.gather(-1, at).squeeze(-1) > 0)
        length = state.length + grows.to(item.dtype)
        cells = cells.scatter(-1, at, length.unsqueeze(-1))

        # The eaten item reappears on the r-th empty cell of the board, r uniform.
        empty = (cells == 0) & tables.board[size]
        count = empty.cumsum(-1)
        spot = empty & (count == (noise * count[..., -1:]).long() + 1)
        cells = torch.where(spot, item, cells)

        worth = self._worth(task).expand(*wall.shape, -1)
        eaten = worth.gather(-1, -item.long()).squeeze(-1)
        return State(cells, head, heading, length), eaten - dies.to(item.dtype), dies

    def oracle(self, state: State, task: Task) -> Tensor:
        """Greedy action under the true rules, toward the food with the highest discounted value.

        The score of a move is the value of what it eats, plus the best value * `0.8 ** distance`
        over food from the new cell, plus 0.02 for each exit of that cell, minus 10 for death.
        """
        tables, size, wrap = (
            board_tables(self.plane, state.head.device),
            task.size.long(),
            task.wrap,
        )
        wrap = wrap.long()
        entered = tables.leads[size, wrap, state.head]  # (N, B, 4)
        at = entered.clamp(min=0)
        here = state.cells.gather(-1, at)
        worth = self._worth(task).expand(*here.shape[:2], -1)

        def worth_of(cells: Tensor) -> Tensor:
            return worth.gather(-1, (-cells).clamp(min=0).long())

        then = tables.leads[size.unsqueeze(-1), wrap.unsqueeze(-1), at]  # (N, B, 4, 4)
        onward = state.cells.gather(-1, then.clamp(min=0).flatten(-2)).view_as(then)
        ways = ((then >= 0) & (onward <= 2)).to(worth.dtype).sum(-1)
        food = worth_of(state.cells).clamp(min=0).unsqueeze(-2)  # (N, B, 1, C)
        near = tables.near[size.unsqueeze(-1), wrap.unsqueeze(-1), at].to(worth.dtype)
        # Don't count the item that this move eats a second time.
        left = torch.arange(self.plane**2, device=at.device) != at.unsqueeze(-1)
        value = worth_of(here) + (food * near * left).amax(-1) + 0.02 * ways
        turn = torch.arange(4, device=at.device) - state.heading.unsqueeze(-1)
        back, dies = turn.abs() == 2, (entered < 0) | (here > 1) | (ways == 0)
        return (value - 10.0 * dies - 100.0 * back).argmax(-1)

    def _worth(self, task: Task) -> Tensor:
        """Values (N, 1, 4) of nothing, an apple, a berry and a plum."""
        return torch.stack((torch.zeros_like(task.apple), *task[:KINDS]), dim=-1)

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """Top view of the board; signs mark food and poison, bricks a deadly edge."""
        from metarl.envs.core.canvas import Canvas

        side, n = 44, self.plane
        canvas = Canvas(n * side + 2 * EDGE, n * side + 2 * EDGE, (38, 44, 56))
        board = board_tables(n, torch.device("cpu")).board[int(task.size[0, 0])].view(n, n).tolist()
        cells = state.cells[0, 0].view(n, n).tolist()
        worth = [float(t[0, 0]) for t in task[:KINDS]]
        inside = [(i, j) for i, j in product(range(n), repeat=2) if board[i][j]]
        low, high = EDGE + inside[0][0] * side, EDGE + (inside[-1][0] + 1) * side
        _draw_edge(canvas, low, high, bool(task.wrap[0, 0]))
        for i, j in inside:
            left, top = EDGE + j * side, EDGE + i * side
            grass = (170, 206, 120) if (i + j) % 2 else (160, 198, 112)
            canvas.box(left, top, left + side, top + side, grass)
        for i, j in inside:
            if cells[i][j] < 0:
                kind = round(-cells[i][j])
                x, y = EDGE + (j + 0.5) * side, EDGE + (i + 0.5) * side
                _draw_food(canvas, x, y, kind, worth[kind - 1])
        _draw_snake(canvas, state, n, side)
        return canvas.array()


def _draw_edge(canvas: Any, low: int, high: int, wraps: bool) -> None:
    if not wraps:
        canvas.box(low - 6, low - 6, high + 6, high + 6, (178, 84, 60), radius=3)
        return
    for a in range(low + 6, high - 6, 18):  # dashed, since the snake may cross it
        for b in (low - 3, high + 3):
            canvas.line((a, b), (a + 8, b), 3, (150, 190, 230))
            canvas.line((b, a), (b, a + 8), 3, (150, 190, 230))


def _draw_food(canvas: Any, x: float, y: float, kind: int, worth: float) -> None:
    color = ((214, 60, 52), (62, 90, 200), (140, 62, 150))[kind - 1]
    if kind == 2:
        for dx, dy in ((-6, -3), (6, -3), (0, 6)):
            canvas.disc(x + dx, y + dy, 8, color)
    else:
        canvas.disc(x, y + 1, 14 if kind == 1 else 12, color)
        canvas.line((x, y - 9), (x + 4, y - 17), 3, (90, 64, 40))
    canvas.line((x - 6, y + 1), (x + 6, y + 1), 3, (255, 255, 255))
    if worth > 0:
        canvas.line((x, y - 5), (x, y + 7), 3, (255, 255, 255))


def _draw_snake(canvas: Any, state: State, n: int, side: int) -> None:
    body = state.cells[0, 0].tolist()
    order = sorted((cell for cell in range(n * n) if body[cell] > 0), key=lambda c: body[c])
    points = [(EDGE + (c % n + 0.5) * side, EDGE + (c // n + 0.5) * side) for c in order]
    for (x, y), (u, v) in pairwise(points):
        if abs(x - u) + abs(y - v) == side:  # not where the snake wraps around
            canvas.line((x, y), (u, v), 26, (58, 128, 72))
    for x, y in points:
        canvas.disc(x, y, 13, (58, 128, 72))
    x, y = points[-1]
    down, across = MOVES[int(state.heading[0, 0])]
    canvas.disc(x, y, 17, (40, 104, 58))
    for sign in (-1, 1):
        eye = x + 7 * across + 7 * sign * down, y + 7 * down + 7 * sign * across
        canvas.disc(*eye, 5, (255, 255, 255))
        canvas.disc(eye[0] + across, eye[1] + down, 2.5, (20, 20, 20))
