"""Detects held-out values that behave like a training value, such as duplicate levels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np

from metarl.envs.gym.bound_env import Settings
from metarl.envs.gym.checks.trace import random_rollout
from metarl.envs.gym.worker_envs import WorkerEnvs

FEW, MANY = 40, 200  # steps that distinguish most levels, and maximum steps
SEEDS = (0, 1, 2)


def count_alike(
    worker_envs: WorkerEnvs, held_out: Sequence[Settings], train: Sequence[Settings]
) -> tuple[int, int]:
    """Number of held-out variants that equal a training variant under random actions, and total."""
    start_digest = partial(_digest, worker_envs, steps=FEW, seeds=SEEDS[:1])
    by_start = defaultdict(list)  # training variants by the digest of their first steps
    for setting in train:
        by_start[start_digest(setting)].append(setting)
    cache: dict[str, bytes] = {}

    def full_digest(setting: Settings) -> bytes:
        key = repr(setting)
        if key not in cache:
            cache[key] = _digest(worker_envs, setting, MANY, SEEDS)
        return cache[key]

    count = 0
    for setting in held_out:
        candidates = by_start.get(start_digest(setting), ())
        count += any(full_digest(setting) == full_digest(other) for other in candidates)
    return count, len(held_out)


def _digest(worker_envs: WorkerEnvs, setting: Settings, steps: int, seeds: Sequence[int]) -> bytes:
    """Hash of the results of random actions in a variant."""
    digest = hashlib.sha256()
    env = worker_envs.take(setting)
    for seed in seeds:
        for events in random_rollout(env, setting, seed, steps):
            worker_envs.show_progress(-1)
            for event in events:
                value = -1.0 if event.value is None else event.value
                digest.update(repr(event[:3]).encode() + np.asarray(value).tobytes())
    worker_envs.release(env)
    return digest.digest()
