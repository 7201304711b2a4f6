"""Held-out values that play exactly as a training value does: another number, the same level."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from envs.bound_env import Settings
from envs.stage import Stage
from envs.trace import random_play

FEW, MANY = 40, 200  # steps that tell most levels apart, and all that are given
SEEDS = (0, 1, 2)


class Alike(NamedTuple):
    """Of `tried` held-out values, `count` play as a training value does."""

    count: int
    tried: int


def count_alike(stage: Stage, held_out: Sequence[Settings], train: Sequence[Settings]) -> Alike:
    """Compare the random play of each held-out variant with that of each in training."""
    known = {_digest(stage, s, FEW, SEEDS[:1]) for s in train}
    near = [s for s in held_out if _digest(stage, s, FEW, SEEDS[:1]) in known]
    whole = {_digest(stage, s, MANY, SEEDS) for s in train} if near else set()
    count = sum(_digest(stage, s, MANY, SEEDS) in whole for s in near)
    return Alike(count, len(held_out))


def _digest(stage: Stage, setting: Settings, steps: int, seeds: Sequence[int]) -> bytes:
    """Of all that an agent sees and gets."""
    told = hashlib.sha256()
    made = stage.take(setting)
    for seed in seeds:
        for events in random_play(made, setting, seed, steps):
            stage.show_progress(-1)
            for event in events:
                value = -1.0 if event.value is None else event.value
                told.update(repr(event[:3]).encode() + np.asarray(value).tobytes())
    stage.put_by(made)
    return told.digest()
