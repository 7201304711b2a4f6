"""A contextual bandit: recommend films to a user with hidden preferences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from metarl.envs.core.parameters import Range
from metarl.envs.core.value_limits import HORIZON, check_constants

if TYPE_CHECKING:
    from metarl.envs.core.canvas import Canvas, Color

TRAITS = 4  # features of a film: fast, funny, long, new; each in [-1, 1]
# Colors of bars in images: the traits and the preference for variety.
HUES = ((220, 80, 70), (235, 170, 50), (50, 150, 130), (70, 110, 200), (236, 236, 240))
GOLD = (235, 180, 50)
CARD = 120  # pixels between films in images


class Task(NamedTuple):
    """Preferences of N users; negative for dislikes. Every field: (N, 1)."""

    fast: Tensor
    funny: Tensor
    long: Tensor
    new: Tensor
    variety: Tensor  # preference for films unlike the last one; negative for similar ones


class State(NamedTuple):
    """B sessions of each of N users."""

    films: Tensor  # (N, B, choices, TRAITS) on offer
    last: Tensor  # (N, B, TRAITS) of the film shown last, 0 at first
    time: Tensor  # (N, B) films shown
    clicks: Tensor  # (N, B) used for rendering only
    clicked: Tensor  # (N, B) bool, whether the last film was clicked


@dataclass(frozen=True)
class Recommender:
    """Show one of a few films at a time to a user with hidden preferences.

    Action: index of the film to show, 0 to `choices` - 1.
    Observation: four traits of each film on offer, then those of the film shown last, all in
        [-1, 1]. Each step offers new films, whose traits have an arcsine distribution.
    Reward: 1 for a click, whose log-odds are `keenness` * (taste . film - variety * film . last).
    Start: no film has been shown; `last` is 0.
    End: after `horizon` films.
    Reference returns: 0.5 per film without adaptation, thus 10.0 by default, for any policy: for
        each user there is one with the opposite preferences, whose click probabilities are
        complementary. The oracle shows the film most likely to be clicked and gets 17.2 on average
        over users; an optimal one would also plan ahead, since the film affects the next click.
        Ignoring the preference for variety, the oracle would get 15.9.
    Source: the linear contextual bandit of Li et al. 2010 (arXiv:1003.0146), with a logistic user
        (Chapelle and Li 2011) and a preference for variety, which links the steps of a session.
    """

    fast: Range = Range(-1.0, 1.0, extrapolation=(-1.5, 1.5), default=0.6)
    funny: Range = Range(-1.0, 1.0, extrapolation=(-1.5, 1.5), default=-0.8)
    long: Range = Range(-1.0, 1.0, extrapolation=(-1.5, 1.5), default=0.2)
    new: Range = Range(-1.0, 1.0, extrapolation=(-1.5, 1.5), default=0.9)
    variety: Range = Range(-1.0, 1.0, extrapolation=(-1.5, 1.5), default=0.5)
    choices: int = 4  # films on offer
    keenness: float = 3.0  # log-odds per unit of preference
    horizon: int = 20  # films shown in a session

    name: ClassVar[str] = "recommender"
    task_type: ClassVar[type] = Task
    source: ClassVar[str] = "contextual bandit of Li et al. 2010 (arXiv:1003.0146), logistic user"

    def __post_init__(self) -> None:
        check_constants(
            self,
            fast=(-1e3, 1e3),
            funny=(-1e3, 1e3),
            long=(-1e3, 1e3),
            new=(-1e3, 1e3),
            variety=(-1e3, 1e3),
            choices=(2, 1000),
            keenness=(0, 1e3),
            horizon=HORIZON,
        )

    @property
    def reset_noise(self) -> int:
        return self.choices * TRAITS

    @property
    def step_noise(self) -> int:
        return self.choices * TRAITS + 1  # the next films and the click

    @property
    def observation_space(self) -> Box:
        return Box(-1.0, 1.0, ((self.choices + 1) * TRAITS,), np.float32)

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.choices)

    def reset(self, task: Task, noise: Tensor) -> State:
        films = self._films(noise)
        none = films.new_zeros(films.shape[:2])
        return State(films, torch.zeros_like(films[..., 0, :]), none.long(), none, none > 0)

    def observe(self, state: State) -> Tensor:
        return torch.cat((state.films.flatten(-2), state.last), dim=-1)

    def step(
        self, state: State, act: Tensor, task: Task, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        index = act.view(*act.shape, 1, 1).expand(-1, -1, 1, TRAITS)
        shown = state.films.gather(-2, index).squeeze(-2)
        odds = self._odds(state.last, task, shown.unsqueeze(-2)).squeeze(-1)
        clicked = noise[..., -1] < odds.sigmoid()
        rew = clicked.to(shown.dtype)
        films = self._films(noise[..., :-1])
        nxt = State(films, shown, state.time + 1, state.clicks + rew, clicked)
        return nxt, rew, torch.zeros_like(clicked)

    def oracle(self, state: State, task: Task) -> Tensor:
        """The film most likely to be clicked; nearly optimal, since it doesn't plan; (N, B)."""
        return self._odds(state.last, task, state.films).argmax(-1)

    def _films(self, noise: Tensor) -> Tensor:
        films: Tensor = (math.pi * (noise - 0.5)).sin().unflatten(-1, (self.choices, TRAITS))
        return films

    def _odds(self, last: Tensor, task: Task, films: Tensor) -> Tensor:
        """Log-odds (N, B, F) of a click on each of `films` (N, B, F, TRAITS)."""
        taste = torch.stack(task[:TRAITS], dim=-1) - task.variety.unsqueeze(-1) * last
        odds: Tensor = self.keenness * (films * taste.unsqueeze(-2)).sum(-1)
        return odds

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """Top: the films on offer. Below: the film shown last, the user and the user's preferences.

        Each trait has a bar, which points right for fast, funny, long and new. If the last film was
        clicked, its frame is gold and the user smiles. The user's fifth, white bar is the
        preference for variety. Bottom: clicks (gold) among films shown (gray).
        """
        from metarl.envs.core.canvas import Canvas

        width = max(4, self.choices) * CARD + 16
        canvas = Canvas(width, 330, (240, 238, 230))
        for i, film in enumerate(state.films[0, 0].tolist()):
            _draw_film(canvas, 16 + CARD * i, 16, film, (34, 38, 50))
        clicked, time = bool(state.clicked[0, 0]), int(state.time[0, 0])
        edge = GOLD if clicked else (150, 152, 160)
        if time > 0:
            _draw_film(canvas, 16, 176, state.last[0, 0].tolist(), edge)
        _draw_face(canvas, 16 + 1.5 * CARD, 236, clicked)
        canvas.box(16 + 2 * CARD, 176, 16 + 4 * CARD - 16, 296, (34, 38, 50), radius=8)
        preferences = [float(value[0, 0]) / 1.5 for value in task]
        _draw_bars(canvas, 8 + 3 * CARD, 184, 84, preferences)
        canvas.box(16, 310, width - 16, 318, (222, 220, 212), radius=4)
        for count, color in ((time, (150, 152, 160)), (float(state.clicks[0, 0]), GOLD)):
            canvas.box(16, 310, 16 + (width - 32) * count / self.horizon, 318, color, radius=4)
        return canvas.array()


def _draw_film(canvas: Canvas, x: float, y: float, film: list[float], edge: Color) -> None:
    """Draw a piece of film strip, 104 x 120 pixels, with the top left corner at (x, y)."""
    canvas.box(x, y, x + 104, y + 120, edge, radius=8)
    for i in range(8):
        for hole in (y + 5, y + 107):
            canvas.box(x + 7 + 12 * i, hole, x + 14 + 12 * i, hole + 8, (240, 238, 230), radius=2)
    canvas.box(x + 5, y + 18, x + 99, y + 102, (250, 250, 248), radius=4)
    _draw_bars(canvas, x + 52, y + 20, 42, film)


def _draw_bars(canvas: Canvas, x: float, y: float, reach: float, values: list[float]) -> None:
    """Draw a column of bars for values in [-1, 1], up to `reach` pixels long, from a line at x."""
    pitch = 80 / TRAITS if len(values) == TRAITS else 104 / len(values)
    for i, (value, color) in enumerate(zip(values, HUES, strict=False)):
        end = x + reach * value
        top = y + pitch * i + 0.15 * pitch
        canvas.box(min(x, end), top, max(x, end), top + 0.7 * pitch, color, radius=2)
    canvas.box(x - 1, y, x + 1, y + pitch * len(values), (150, 152, 160))


def _draw_face(canvas: Canvas, x: float, y: float, happy: bool) -> None:
    canvas.disc(x, y, 40, (246, 205, 160))
    for side in (-1, 1):
        canvas.disc(x + 14 * side, y - 10, 5, (34, 38, 50))
    lift = -8 if happy else 3  # pixels, of the corners of the mouth
    for side in (-1, 1):
        canvas.line((x, y + 18), (x + 9 * side, y + 16 + lift / 4), 4, (150, 60, 60))
        canvas.line(
            (x + 9 * side, y + 16 + lift / 4), (x + 18 * side, y + 14 + lift), 4, (150, 60, 60)
        )
