"""Held-out values that play exactly as a training value does: another number, the same level."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np

from metarl.envs.gym.bound_env import Settings
from metarl.envs.gym.checks.trace import random_rollout
from metarl.envs.gym.worker_envs import WorkerEnvs

FEW, MANY = 40, 200  # steps that tell most levels apart, and all that are given
SEEDS = (0, 1, 2)


def count_alike(
    worker_envs: WorkerEnvs, held_out: Sequence[Settings], train: Sequence[Settings]
) -> tuple[int, int]:
    """How many held-out variants play, at random, as one in training; and of how many."""
    beginning = partial(_digest, worker_envs, steps=FEW, seeds=SEEDS[:1])
    known = defaultdict(list)  # training variants by how they begin
    for setting in train:
        known[beginning(setting)].append(setting)
    whole: dict[str, bytes] = {}

    def plays(setting: Settings) -> bytes:
        key = repr(setting)
        if key not in whole:
            whole[key] = _digest(worker_envs, setting, MANY, SEEDS)
        return whole[key]

    count = 0
    for setting in held_out:
        count += any(plays(setting) == plays(other) for other in known.get(beginning(setting), ()))
    return count, len(held_out)


def _digest(worker_envs: WorkerEnvs, setting: Settings, steps: int, seeds: Sequence[int]) -> bytes:
    """Of all that an agent sees and gets."""
    told = hashlib.sha256()
    made = worker_envs.take(setting)
    for seed in seeds:
        for events in random_rollout(made, setting, seed, steps):
            worker_envs.show_progress(-1)
            for event in events:
                value = -1.0 if event.value is None else event.value
                told.update(repr(event[:3]).encode() + np.asarray(value).tobytes())
    worker_envs.release(made)
    return told.digest()
