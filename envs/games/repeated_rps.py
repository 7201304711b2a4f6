"""Repeated rock-paper-scissors against an opponent with hidden habits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Discrete, MultiBinary
from torch import Tensor

from metarl.envs.core.parameters import Choice, Range
from metarl.envs.core.value_limits import HORIZON, check_constants

HABITS = (0.0, 1.0, 2.0)  # repeat the last move; play what beats it; play what it beats
START = 9  # joint move before the first round


class Task(NamedTuple):
    """Habits of N opponents by the outcome of their last round. Every field: (N, 1)."""

    tie_habit: Tensor  # index into HABITS
    win_habit: Tensor
    loss_habit: Tensor
    tie_strength: Tensor  # probability of the habit; the other two share the rest equally
    win_strength: Tensor
    loss_strength: Tensor


class State(NamedTuple):
    """B matches against each of N opponents. Every field: (N, B)."""

    joint: Tensor  # 3 * the agent's last move + the opponent's, or START; moves 0 1 2 = R P S
    played: Tensor  # rounds played, used for rendering only
    score: Tensor  # rounds won minus rounds lost, used for rendering only


@dataclass(frozen=True)
class RepeatedRPS:
    """Play rock-paper-scissors against an opponent with hidden conditional responses.

    The opponent is stochastic: its probabilities to repeat its last move, to play the move that
    beats it, or the move that it beats, depend on whether it has just tied, won or lost.

    Action: 0 rock, 1 paper, 2 scissors. Observation: 9 bits, one for each joint move of the last
    round; all 0 before the first. Reward: 1 for a win, 0 for a tie, -1 for a loss. Start: the
    opponent's first move is uniform. End: after `horizon` rounds.

    Reference returns: the best policy that depends on the last joint move and never adapts gets
    about 2.6. It keeps one response while it wins and varies it otherwise (found by gradient ascent
    on the exact return). A policy that plays a fixed shift of the opponent's last move after each
    outcome gets exactly 0 on average over all habits. The oracle knows the habits and beats the
    likeliest move. This is optimal, since the values of outcomes for the future differ by less than
    1, so that winning now is best. It gets 16.3 on average, (horizon - 1) (3 p - 1) / 2 if all
    three habits have strength p.

    Source: win-lose-tie conditional responses, Wang, Xu and Zhou 2014 (arXiv:1404.5199).
    """

    tie_habit: Choice = Choice(HABITS)
    win_habit: Choice = Choice(HABITS)
    loss_habit: Choice = Choice(HABITS)
    tie_strength: Range = Range(0.5, 0.9, extrapolation=(0.35, 1.0))
    win_strength: Range = Range(0.5, 0.9, extrapolation=(0.35, 1.0))
    loss_strength: Range = Range(0.5, 0.9, extrapolation=(0.35, 1.0))
    horizon: int = 30  # rounds

    name: ClassVar[str] = "repeated-rps"
    source: ClassVar[str] = "conditional responses of Wang, Xu and Zhou 2014, arXiv:1404.5199"
    task_type: ClassVar[type] = Task
    reset_noise: ClassVar[int] = 0
    step_noise: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_constants(
            self,
            tie_habit=(0, 2),
            win_habit=(0, 2),
            loss_habit=(0, 2),
            tie_strength=(0, 1),
            win_strength=(0, 1),
            loss_strength=(0, 1),
            horizon=HORIZON,
        )

    @property
    def observation_space(self) -> MultiBinary:
        return MultiBinary((9,))

    @property
    def action_space(self) -> Discrete:
        return Discrete(3)

    def reset(self, task: Task, noise: Tensor) -> State:
        zero = torch.zeros(noise.shape[:2], dtype=torch.long, device=noise.device)
        return State(zero + START, zero, zero.to(task.tie_strength.dtype))

    def observe(self, state: State) -> Tensor:
        nine = torch.arange(START, device=state.joint.device)
        return (state.joint.unsqueeze(-1) == nine).to(torch.get_default_dtype())

    def step(
        self, state: State, act: Tensor, task: Task, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        mine, its = state.joint // 3, state.joint % 3
        ended = ((its - mine) % 3).unsqueeze(-1)  # for the opponent: 0 tie, 1 win, 2 loss
        habit, strength = _by_ending(task)
        habit = habit.expand(*ended.shape[:2], 3).gather(-1, ended).squeeze(-1)
        strength = strength.expand(*ended.shape[:2], 3).gather(-1, ended).squeeze(-1)
        u = noise.squeeze(-1)
        off = (u >= strength).long() + (u >= (1 + strength) / 2)
        uniform = (3 * u).long()
        its = torch.where(state.joint == START, uniform, (its + habit.long() + off) % 3)
        rew = ((act - its + 1) % 3 - 1).to(strength.dtype)
        nxt = State(3 * act + its, state.played + 1, state.score + rew)
        return nxt, rew, torch.zeros_like(rew, dtype=torch.bool)

    def oracle(self, state: State, task: Task) -> Tensor:
        """The move that beats the opponent's likeliest move; optimal; (N, B)."""
        mine, its = state.joint // 3, state.joint % 3
        habit = (
            _by_ending(task)[0].expand(*its.shape, 3).gather(-1, ((its - mine) % 3).unsqueeze(-1))
        )
        move: Tensor = (its + habit.squeeze(-1).long() + 1) % 3
        return move

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """Last moves (agent left, opponent right), the opponent's next-move odds, and the score."""
        from metarl.envs.core.canvas import Canvas

        canvas = Canvas(400, 250, (38, 46, 60))
        joint, played = int(state.joint[0, 0]), int(state.played[0, 0])
        mine, its = joint // 3, joint % 3
        won = 0 if joint == START else (mine - its + 1) % 3 - 1
        for x, move, wins, color in (
            (90, mine, won > 0, (70, 140, 230)),
            (230, its, won < 0, (225, 95, 80)),
        ):
            canvas.disc(x, 95, 66, (250, 205, 70) if wins else (58, 68, 86))
            canvas.disc(x, 95, 60, color)
            if joint != START:
                _draw_move(canvas, x, 95, 1.0, move)
        chances = _next_move(state, task)[0, 0].tolist()
        for i, chance in enumerate(chances):
            y = 45.0 + 50 * i
            canvas.box(318, y - 21, 388, y + 21, (58, 68, 86), radius=6)
            canvas.box(350, y - 7, 350 + 32, y + 7, (38, 46, 60), radius=3)
            canvas.box(350, y - 7, 350 + 32 * chance, y + 7, (225, 95, 80), radius=3)
            _draw_move(canvas, 334, y, 0.36, i)
        canvas.box(20, 196, 380, 210, (58, 68, 86), radius=7)
        tip = 200 + 180 * float(state.score[0, 0]) / self.horizon
        color = (70, 140, 230) if tip > 200 else (225, 95, 80)
        canvas.box(min(tip, 200), 196, max(tip, 200), 210, color)
        canvas.box(199, 190, 201, 216, (230, 230, 225))
        for k in range(self.horizon):
            color = (230, 230, 225) if k < played else (80, 92, 112)
            canvas.disc(20 + 360 * (k + 0.5) / self.horizon, 232, 3.5, color)
        return canvas.array()


def _by_ending(task: Task) -> tuple[Tensor, Tensor]:
    """Habit and strength (N, 1, 3) after a tie, a win and a loss of the opponent."""
    return torch.stack(task[:3], dim=-1), torch.stack(task[3:], dim=-1)


def _shift_probabilities(task: Task) -> Tensor:
    """Probability (N, outcome, 3) of each habit after each outcome."""
    habit, strength = (x.squeeze(1).unsqueeze(-1) for x in _by_ending(task))
    three = torch.arange(3, device=habit.device)
    return torch.where(habit == three, strength, (1 - strength) / 2)


def _next_move(state: State, task: Task) -> Tensor:
    """Probability (N, B, 3) of each move of the opponent in the next round."""
    mine, its = state.joint // 3, state.joint % 3
    shifts = _shift_probabilities(task)
    opponent = torch.arange(len(shifts), device=shifts.device).view(-1, 1, 1)
    three = torch.arange(3, device=shifts.device)
    chances = shifts[opponent, (its - mine).unsqueeze(-1) % 3, (three - its.unsqueeze(-1)) % 3]
    return torch.where(state.joint.unsqueeze(-1) == START, 1 / 3, chances)


def _draw_move(canvas: Any, x: float, y: float, scale: float, move: int) -> None:
    """Draw a stone, a sheet of paper or scissors."""

    def at(dx: float, dy: float) -> tuple[float, float]:
        return x + scale * dx, y + scale * dy

    if move == 0:
        canvas.disc(*at(-8, 6), 27 * scale, (150, 152, 160))
        canvas.disc(*at(12, 8), 23 * scale, (132, 134, 143))
        canvas.disc(*at(2, -8), 24 * scale, (172, 174, 182))
    elif move == 1:
        canvas.box(*at(-26, -34), *at(26, 34), (248, 246, 238), radius=4 * scale)
        for dy in (-18, -6, 6, 18):
            canvas.line(at(-16, dy), at(16, dy), 3 * scale, (170, 178, 192))
    else:
        for side in (-1, 1):
            canvas.line(at(-14 * side, 20), at(17 * side, -36), 8 * scale, (232, 236, 240))
            canvas.disc(*at(-17 * side, 26), 14 * scale, (40, 44, 52))
            canvas.disc(*at(-17 * side, 26), 7 * scale, (200, 205, 212))
        canvas.disc(*at(0, -5), 4 * scale, (90, 96, 106))
