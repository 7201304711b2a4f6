"""Hangman with a hidden lexicon, which determines the likely words and letters."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Discrete, MultiBinary
from torch import Tensor

from metarl.envs.core.lookup_tables import table
from metarl.envs.core.parameters import Choice
from metarl.envs.core.splits import Split
from metarl.envs.core.value_limits import check_constants
from metarl.envs.games.word_list import CONSONANTS, LETTERS, VOWELS, WORDS

LENGTH = 4  # letters per word
# By the sum of both indices, modulo 10. Each split has every pair of vowels equally often.
SPLIT_OF: tuple[Split, ...] = (
    "train", "train", "validation", "test", "extrapolate",
    "train", "train", "train", "test", "extrapolate",
)  # fmt: skip


class Task(NamedTuple):
    """Lexicons of N games. Every field: (N, 1)."""

    vowels: Tensor  # index into VOWELS
    consonants: Tensor  # index into CONSONANTS


class State(NamedTuple):
    """B episodes of each of N games."""

    secret: Tensor  # (N, B, LENGTH) indices into LETTERS
    tried: Tensor  # (N, B, len(LETTERS)) bool
    misses: Tensor  # (N, B)


@dataclass(frozen=True)
class WordGuess:
    """Guess a word letter by letter; the lexicon it is drawn from is hidden.

    A lexicon has the `size` words that best match two favorite vowels and five favorite consonants.
    There are 100 lexicons: 50 for training, 10 for validation, 20 for test, and 20 for
    extrapolation, which share no words with the others.

    Action: one of 20 letters in alphabetical order. Observation: (5, 20) bits, a row for each
    position of the word with its letter once it is found, and a row of the letters tried. Reward: 1
    for each position with the letter; -1 if there is none or the letter was tried before. Start: a
    uniformly drawn word of the lexicon. End: the word is found, or after `misses` misses.

    Reference returns: a policy that knows all lexicons, but not which one is used, and guesses the
    likeliest letter given the observation gets 0.9 on test lexicons (it is greedy, so perhaps not
    the best policy that never adapts), 1.2 on training and 1.1 on validation lexicons. One that
    knows only the training lexicons gets 1.4 on these, 0.75 on validation and 0.3 on test: they can
    be memorized. The oracle knows the lexicon and does the same: 3.46. It is greedy too, and within
    0.2 of the optimum on each of the five lexicons for which a test computes it.

    Source: the game of hangman; words and lexicons were made for this project.
    """

    vowels: Choice = Choice(tuple(float(i) for i in range(len(VOWELS))))
    consonants: Choice = Choice(tuple(float(i) for i in range(len(CONSONANTS))))
    size: int = 8  # words per lexicon
    misses: int = 6  # wrong guesses that end the game

    name: ClassVar[str] = "word-guess"
    source: ClassVar[str] = "the game of hangman, with words and lexicons made for this project"
    task_type: ClassVar[type] = Task
    reset_noise: ClassVar[int] = 1
    step_noise: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_constants(
            self,
            vowels=(0, len(VOWELS) - 1),
            consonants=(0, len(CONSONANTS) - 1),
            size=(1, 100),
            misses=(1, 1000),
        )

    @property
    def horizon(self) -> int:
        """Guesses in the longest game: all but one position found one by one, plus all misses."""
        return LENGTH - 1 + self.misses

    @property
    def observation_space(self) -> MultiBinary:
        return MultiBinary((LENGTH + 1, len(LETTERS)))

    @property
    def action_space(self) -> Discrete:
        return Discrete(len(LETTERS))

    def members(self, split: Split, device: torch.device | str = "cpu") -> Task:
        """All lexicons of a split, fields (M, 1)."""
        return _members(split, torch.device(device))

    def reset(self, task: Task, noise: Tensor) -> State:
        lexicon = self._lexicon(task)
        drawn = (noise * self.size).long()
        secret = lexicon.gather(1, drawn.expand(*noise.shape[:2], LENGTH))
        tried = torch.zeros(*noise.shape[:2], len(LETTERS), dtype=torch.bool, device=noise.device)
        return State(secret, tried, torch.zeros_like(drawn[..., 0]))

    def observe(self, state: State) -> Tensor:
        letters = torch.arange(len(LETTERS), device=state.secret.device)
        found = state.tried.gather(-1, state.secret).unsqueeze(-1)
        places = (state.secret.unsqueeze(-1) == letters) & found
        every = torch.cat((places, state.tried.unsqueeze(-2)), dim=-2)
        return every.to(torch.get_default_dtype())

    def step(
        self, state: State, act: Tensor, task: Task, noise: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        act = act.unsqueeze(-1)
        found = (state.secret == act).sum(-1) * ~state.tried.gather(-1, act).squeeze(-1)
        missed = found == 0
        tried = state.tried.scatter(-1, act, True)
        nxt = State(state.secret, tried, state.misses + missed)
        solved = tried.gather(-1, state.secret).all(-1)
        rew = torch.where(missed, -1, found).to(task.vowels.dtype)
        return nxt, rew, solved | (nxt.misses >= self.misses)

    def oracle(self, state: State, task: Task) -> Tensor:
        """The untried letter in most of the words that match the observation; greedy; (N, B)."""
        lexicon = self._lexicon(task)
        tried = state.tried.gather(-1, lexicon.flatten(1).unsqueeze(1).expand(*_lead(state), -1))
        tried = tried.unflatten(-1, (self.size, LENGTH))
        found = state.tried.gather(-1, state.secret).unsqueeze(2)
        same = lexicon.unsqueeze(1) == state.secret.unsqueeze(2)
        fits = torch.where(found, same, ~tried).all(-1)  # (N, B, size)
        letters = torch.arange(len(LETTERS), device=lexicon.device)
        has = (lexicon.unsqueeze(-1) == letters).any(-2).to(task.vowels.dtype)  # (N, size, letters)
        count = fits.to(has.dtype) @ has
        guess: Tensor = count.masked_fill(state.tried, -1).argmax(-1)
        return guess

    def _lexicon(self, task: Task) -> Tensor:
        """Words of the tasks' lexicons as letter indices, (N, size, LENGTH)."""
        table = _lexicons(self.size, task.vowels.device)
        return table[task.vowels.long().squeeze(-1), task.consonants.long().squeeze(-1)]

    def frame(self, state: State, task: Task) -> np.ndarray[Any, Any]:
        """Gallows and word at the top; below, the alphabet with found and missed letters."""
        from metarl.envs.core.canvas import Canvas

        canvas = Canvas(420, 260, (247, 243, 232))
        secret = state.secret[0, 0].tolist()
        tried = state.tried[0, 0].tolist()
        _draw_gallows(canvas, int(state.misses[0, 0]) * len(GALLOWS) // self.misses)
        for i, letter in enumerate(secret):
            x = 190 + 58 * i
            canvas.box(x - 24, 40, x + 24, 100, (255, 255, 255), radius=6)
            canvas.line((x - 18, 92), (x + 18, 92), 3, (70, 74, 84))
            ink = (40, 90, 200) if tried[letter] else (226, 228, 232)
            canvas.text(x, 66, LETTERS[letter].upper(), 40, ink)
        for letter, sign in enumerate(LETTERS):
            x, y = 30 + 40 * (letter % 10), 190 + 40 * (letter // 10)
            color, ink = (255, 255, 255), (70, 74, 84)
            if tried[letter]:
                color, ink = (214, 84, 72), (255, 255, 255)
                if letter in secret:
                    color = (60, 160, 100)
            canvas.box(x - 17, y - 17, x + 17, y + 17, color, radius=6)
            canvas.text(x, y, sign.upper(), 20, ink)
        return canvas.array()


# Lines added by each miss: head (None), body, arms, legs.
GALLOWS = (None, ((90, 78), (90, 112)), ((90, 86), (74, 100)), ((90, 86), (106, 100)),
           ((90, 112), (76, 134)), ((90, 112), (104, 134)))  # fmt: skip


def _draw_gallows(canvas: Any, parts: int) -> None:
    wood, ink = (130, 95, 60), (70, 74, 84)
    canvas.box(22, 148, 118, 154, wood, radius=3)
    canvas.box(40, 24, 46, 150, wood)
    canvas.box(40, 24, 93, 30, wood)
    canvas.line((90, 28), (90, 48), 2.5, ink)
    for part in GALLOWS[:parts]:
        if part is None:
            canvas.disc(90, 62, 15, ink)
            canvas.disc(90, 62, 12, (247, 243, 232))
        else:
            canvas.line(*part, 4, ink)


def _lead(state: State) -> torch.Size:
    return state.misses.shape


def words_of(vowels: int, consonants: int, size: int) -> list[str]:
    """A lexicon: the words with the most positions, then distinct letters, that are favorites.

    One word in three is reserved for extrapolation lexicons.
    """
    favorites = {*VOWELS[vowels], *CONSONANTS[consonants]}
    reserved = SPLIT_OF[(vowels + consonants) % len(SPLIT_OF)] == "extrapolate"
    pool = [word for word in WORDS if (_lot(word) % 3 == 0) == reserved]

    def rank(word: str) -> tuple[int, int, int]:
        positions = sum(letter in favorites for letter in word)
        return -positions, -len(set(word) & favorites), _lot(word + CONSONANTS[consonants])

    return sorted(pool, key=rank)[:size]


def _lot(text: str) -> int:
    """A hash for breaking ties that is equal on every machine."""
    return zlib.crc32(text.encode())


@table
def _lexicons(size: int, device: torch.device) -> Tensor:
    """All lexicons as letter indices, (pairs of vowels, sets of consonants, size, LENGTH)."""
    table = [
        [
            [[LETTERS.index(letter) for letter in word] for word in words_of(v, k, size)]
            for k in range(len(CONSONANTS))
        ]
        for v in range(len(VOWELS))
    ]
    return torch.tensor(table).to(device)


@lru_cache
def _members(split: Split, device: torch.device) -> Task:
    pairs = product(range(len(VOWELS)), range(len(CONSONANTS)))
    chosen = [(v, k) for v, k in pairs if SPLIT_OF[(v + k) % len(SPLIT_OF)] == split]
    return Task(*torch.tensor(chosen, dtype=torch.float32).to(device).T.unsqueeze(-1).unbind())
