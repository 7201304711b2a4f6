"""Breakout on a small court with hidden ball speed, wind, paddle width and action mapping."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from metarl.envs.core.errors import UsageError
from metarl.envs.core.lookup_tables import table
from metarl.envs.core.parameters import Choice, Range
from metarl.envs.core.value_limits import HORIZON, check_constants

LAYOUTS = (  # two rows of bricks, repeated to the court's width
    ("########", "########"),  # wall
    ("#.#.#.#.", ".#.#.#.#"),  # chessboard
    ("##..##..", "##..##.."),  # towers
    ("###..###", "###..###"),  # gate
    (".######.", "..####.."),  # bowl
)
FIRST_ROW = 1  # of the bricks; row 0 is empty, so that a ball may get behind the wall


class Task(NamedTuple):
    """Hidden rules of N games. Every field: (N, 1)."""

    speed: Tensor  # rows per step
    wind: Tensor  # columns per step, added to the horizontal speed of a falling ball
    width: Tensor  # columns, of the paddle
    inverted: Tensor  # 1 if action 0 moves right and action 2 left
    layout: Tensor  # index into LAYOUTS


class State(NamedTuple):
    """B episodes of each of N tasks; (0, 0) is the center of the top left cell."""

    x: Tensor  # (N, B) columns, of the ball
    y: Tensor  # (N, B) rows, of the ball, from the top
    slope: Tensor  # (N, B) columns per row that the ball moves without wind
    down: Tensor  # (N, B) 1 if the ball is falling, -1 if it is rising
    paddle: Tensor  # (N, B) columns, center of the paddle
    bricks: Tensor  # (N, B, 2 * size) 1 for a brick


@dataclass(frozen=True)
class Breakout:
    """Break bricks; ball speed, wind, paddle width and the action mapping are hidden.

    Action: 0 left, 1 stay, 2 right, by `paddle_speed`; 0 and 2 are swapped if `inverted` is 1.

    Observation: (3, size, size) planes in [0, 1]. First, the ball, spread over the four nearest
    cells. Second, a spot one row behind the ball along its slope, so that the planes show its
    direction but neither its speed nor the wind. Third, the bricks (their layout is visible) and,
    in the last row, the center of the paddle, but not its width.

    Reward: 1 for each brick, -1 for each ball that passes the paddle. The ball bounces off walls,
    bricks and the paddle. Its slope after the paddle is random, except for a share `english` that
    depends on where it hit. Wind pushes a falling ball sideways in the last `draught` rows. Once
    all bricks are gone, the next bounce off the paddle restores them.

    Start: a ball just below the bricks, falling with a slope in [-1, 1]; ball and paddle at uniform
    columns. A missed ball is replaced with a new one, since episodes that ended at the first miss
    would be uninformative for an untrained agent.

    End: after `horizon` steps.

    Reference returns, computed by tests: standing still gets -5.8. The oracle, which knows the
    rules, catches every ball that can be caught but doesn't aim: 6.2. Without knowledge of the wind
    it gets 3.3, of the action mapping -2.6. The best policy that doesn't adapt isn't known; the
    best found gets -0.9 on test tasks (PPO without memory, 3M steps; docs/bounds.csv).

    Source: MinAtar's Breakout (Young and Tian 2019, arXiv:1903.03176), made continuous.
    """

    speed: Range = Range(1.0, 1.6, "rows/step", extrapolation=(0.8, 1.9))
    wind: Range = Range(-1.6, 1.6, "columns/step", extrapolation=(-2.2, 2.2))
    width: Range = Range(1.6, 3.0, "columns", extrapolation=(1.2, 3.4))
    inverted: Choice = Choice((0.0, 1.0))
    layout: Choice = Choice(tuple(float(i) for i in range(len(LAYOUTS))))
    size: int = 8  # rows and columns
    paddle_speed: float = 0.8  # columns per step, slower than a steep ball
    draught: float = 2.5  # rows above the paddle with wind
    english: float = 0.3  # share of the point of impact in the new slope
    horizon: int = 60  # steps

    name: ClassVar[str] = "breakout"
    visible: ClassVar[tuple[str, ...]] = ("layout",)  # intentionally observable at reset
    source: ClassVar[str] = "MinAtar's Breakout (arXiv:1903.03176), made continuous, rules hidden"
    task_type: ClassVar[type] = Task
    reset_noise: ClassVar[int] = 3
    step_noise: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_constants(
            self,
            speed=(1e-3, 2),
            wind=(-1e3, 1e3),
            width=(0.1, 1e3),
            inverted=(0, 1),
            layout=(0, len(LAYOUTS) - 1),
            size=(6, 64),
            paddle_speed=(1e-6, 1e3),
            draught=(0, 1e3),
            english=(0, 10),
            horizon=HORIZON,
        )
        if self.speed.bounds[0] <= 0 or self.speed.bounds[1] >= 2:
            raise UsageError(
                f"Breakout(speed={self.speed}): the ball could jump over a brick: "
                "give bounds above 0 and below 2 rows/step."
            )

    @property
    def observation_space(self) -> Box:
        return Box(0.0, 1.0, (3, self.size, self.size), np.float32)

    @property
    def action_space(self) -> Discrete:
        return Discrete(3)

    def reset(self, task: Task, noise: Tensor) -> State:
        x, paddle = (self.size - 1) * noise[..., 0], (self.size - 1) * noise[..., 1]
        falling = torch.ones_like(x)
        bricks = self._layout(task).expand(*x.shape, -1)
        return State(x, falling * (FIRST_ROW + 2), 2 * noise[..., 2] - 1, falling, paddle, bricks)

    def observe(self, state: State) -> Tensor:
        far = self.size - 1
        back_x = (state.x - state.slope).clamp(0, far)
        back_y = (state.y - state.down).clamp(0, far)
        at = torch.stack((state.x, state.y, back_x, back_y, state.paddle), dim=-1)
        cells = torch.arange(self.size, device=at.device)
        x, y, back_x, back_y, paddle = (
            (1 - (at.unsqueeze(-1) - cells).abs()).clamp(min=0).unbind(-2)
        )
        solid = state.x.new_zeros(*state.x.shape, self.size, self.size)
        solid[..., FIRST_ROW : FIRST_ROW + 2, :] = state.bricks.unflatten(-1, (2, self.size))
        solid[..., -1, :] = paddle
        ball = y.unsqueeze(-1) * x.unsqueeze(-2)
        trail = back_y.unsqueeze(-1) * back_x.unsqueeze(-2)
        return torch.stack((ball, trail, solid), dim=-3)

    def step(
        self, state: State, act: Tensor, task: Task, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        move = (act.to(state.x.dtype) - 1) * (1 - 2 * task.inverted) * self.paddle_speed
        state = state._replace(paddle=(state.paddle + move).clamp(0, self.size - 1))
        state, rew = self._half(state, task, noise)
        state, more = self._half(state, task, noise)
        return state, rew + more, torch.zeros_like(rew, dtype=torch.bool)

    def _half(self, state: State, task: Task, noise: Tensor) -> tuple[State, Tensor]:
        """Half a step of the ball, in which it hits at most one brick or the paddle."""
        far = self.size - 1
        fly, rew = self._fly(state, task)
        offset = (fly.x - state.paddle) / (task.width / 2)
        arrived = fly.y >= far
        hit, missed = arrived & (offset.abs() <= 1), arrived & (offset.abs() > 1)
        random_slope = 2 * noise[..., 0] - 1
        bounced = self.english * offset + (1 - self.english) * random_slope
        nxt = fly._replace(
            x=torch.where(missed, far * noise[..., 1], fly.x),
            y=torch.where(missed, FIRST_ROW + 2, torch.where(hit, 2 * far - fly.y, fly.y)),
            slope=torch.where(hit, bounced, torch.where(missed, random_slope, fly.slope)),
            down=torch.where(hit, -1.0, fly.down),
            bricks=torch.where(
                (hit & ~fly.bricks.any(-1)).unsqueeze(-1), self._layout(task), fly.bricks
            ),
        )
        return nxt, rew - missed.to(rew.dtype)

    def _fly(self, state: State, task: Task) -> tuple[State, Tensor]:
        """Half a step of the ball among walls and bricks, ignoring the paddle, and its reward."""
        far = self.size - 1
        windy = (state.down > 0) & (state.y > self.size - 1 - self.draught)
        x = state.x + 0.5 * (task.speed * state.slope + task.wind * windy)
        slope = torch.where(x < 0, state.slope.abs(), state.slope)
        slope = torch.where(x > far, -slope.abs(), slope)
        x = far - (far - x.abs()).abs()
        y = state.y + 0.5 * task.speed * state.down
        down = torch.where(y < 0, 1.0, state.down)
        y = y.abs()
        # A ball that would enter the cell of a brick stays in place and reverses vertically.
        row, column = (y + 0.5).floor() - FIRST_ROW, (x + 0.5).floor()
        cell = (row.clamp(0, 1) * self.size + column).long().unsqueeze(-1)
        brick = state.bricks.gather(-1, cell).squeeze(-1)
        rew = brick * ((row >= 0) & (row <= 1)).to(brick.dtype)
        hit = rew > 0
        nxt = state._replace(
            x=torch.where(hit, state.x, x),
            y=torch.where(hit, state.y, y),
            slope=torch.where(hit, state.slope, slope),
            down=torch.where(hit, -down, down),
            bricks=state.bricks.scatter(-1, cell, (brick - rew).unsqueeze(-1)),
        )
        return nxt, rew

    def oracle(self, state: State, task: Task) -> Tensor:
        """Action toward the column where the ball lands; catches but doesn't aim; (N, B)."""
        far, ball, goal = self.size - 1, state, state.x
        landed = torch.zeros_like(state.x, dtype=torch.bool)
        for _ in range(5 * self.size):  # half-steps; few balls stay behind the bricks for longer
            ball, _ = self._fly(ball, task)
            goal = torch.where(landed, goal, ball.x)
            landed = landed | (ball.y >= far)
        distance = goal - state.paddle
        move = distance.sign() * (distance.abs() > self.paddle_speed / 2)
        return (move * (1 - 2 * task.inverted) + 1).long()

    def _layout(self, task: Task) -> Tensor:
        """All bricks of the layout, (N, 1, 2 * size)."""
        walls = _walls(self.size, task.layout.device, task.speed.dtype)
        return walls[task.layout.long()]

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """The court with the true paddle width; streaks show the wind."""
        from metarl.envs.core.canvas import Canvas

        side = 40
        canvas = Canvas(self.size * side, self.size * side, (24, 28, 44))
        x, y, slope, down, paddle = (s[0, 0].item() for s in state[:5])
        bricks = state.bricks[0, 0].view(2, self.size).tolist()
        colors = ((226, 88, 80), (240, 166, 62))
        for row, column in product(range(2), range(self.size)):
            if bricks[row][column]:
                x0, y0 = column * side, (row + FIRST_ROW) * side
                canvas.box(x0 + 2, y0 + 4, x0 + side - 2, y0 + side - 4, colors[row], 5)
        middle, gust = side / 2, 24 * task.wind[0, 0].item()
        for column, row in product(range(self.size), range(2)):
            tip = (
                column * side + (12 if row else 30),
                (self.size - 0.4 - self.draught + 0.9 * row) * side,
            )
            canvas.line((tip[0] - gust, tip[1]), tip, 1.5, (52, 62, 92))
            canvas.disc(*tip, 2.5, (84, 98, 140))
        for k in range(1, 4):
            shade = (150 - 30 * k, 160 - 30 * k, 190 - 30 * k)
            back_x = min(max(x - 0.3 * k * slope, 0), self.size - 1)
            canvas.disc(back_x * side + middle, (y - 0.3 * k * down) * side + middle, 9 - k, shade)
        canvas.disc(x * side + middle, y * side + middle, 9, (255, 255, 255))
        half = task.width[0, 0].item() * side / 2
        left, top = paddle * side + middle, (self.size - 1) * side + middle
        canvas.box(left - half, top + 6, left + half, top + 18, (96, 190, 250), 6)
        return canvas.array()


@table
def _walls(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Bricks of all layouts, (layouts, 2 * size), 1 for a brick."""
    rows = [[(row * size)[:size] for row in layout] for layout in LAYOUTS]
    table = [[float(c == "#") for row in layout for c in row] for layout in rows]
    return torch.tensor(table, dtype=dtype).to(device)
