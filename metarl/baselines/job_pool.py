"""Process pool and jobs of `baselines`; each job builds its own family and models."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from metarl.baselines import recurrent_ppo
from metarl.baselines.cache import read_tensors, write_tensors
from metarl.baselines.ppo_model import new_ppo, ppo_env, weights_of, with_weights
from metarl.baselines.sb3_ppo import adapt_to_variant, play, train_on_variant, train_over_variants
from metarl.baselines.tuning import Candidate, Snapshot
from metarl.envs import make_task
from metarl.evaluation.statistics import Array
from metarl.experiment.checkpoint import save_checkpoint
from metarl.system.machine import cores

if TYPE_CHECKING:
    from stable_baselines3 import PPO

    from metarl.baselines.baseline_spec import BaselineSpec


@dataclass
class JobPool:
    """A pool with one process per core.

    Args:
        report: called with the numbers of finished and of submitted jobs.
    """

    report: Callable[[int, int], None]
    asked: int = 0
    done: int = 0

    def __enter__(self) -> JobPool:
        context = get_context("spawn")
        self._pool = ProcessPoolExecutor(cores(), context, torch.set_num_threads, (1,))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Submit a job, and report when it ends."""
        self.asked += 1
        future = self._pool.submit(function, *args)
        future.add_done_callback(self._finished)
        return future

    def _finished(self, _: Future[Any]) -> None:
        self.done += 1
        self.report(self.done, self.asked)


def pretrain(
    spec: BaselineSpec, wanted: list[Snapshot], start: Snapshot | None, home: Path
) -> None:
    """Train over variants and save snapshots, in ascending order, in `home`.

    Args:
        start: an earlier snapshot to continue from.
    """
    names = {s.done: s.name for s in wanted}
    cfg = replace(spec.long_ppo(), entropy=wanted[0].entropy)

    def save(done: int, model: PPO) -> None:
        if done in names:
            write_tensors(home / names[done], weights_of(model))

    earlier = None if start is None else (start.done, read_tensors(home / start.name))
    train_over_variants(cfg, spec.family(), spec.env_steps, save, earlier, end=wanted[-1].done)


def adapt(
    spec: BaselineSpec, candidate: Candidate, first: int, last: int, home: Path
) -> tuple[Array, Array]:
    """Returns after 0 ... K updates and the environment steps used, on variants [first, last)."""
    family, start = spec.family(), candidate.start
    weights = None if start is None else read_tensors(home / start.name)
    found = []
    for i in range(first, last):
        cfg = candidate.ppo(spec.ppo(), seed(spec.seed, i))
        task = make_task(family, **spec.params[i])
        budget = spec.episodes, spec.budget, spec.steps
        found.append(adapt_to_variant(cfg, family, task, *budget, weights, candidate.head))
    returns, env_steps = (np.stack(column) for column in zip(*found, strict=True))
    return returns, env_steps


def adapted_return(
    spec: BaselineSpec, candidate: Candidate, first: int, last: int, home: Path
) -> list[float]:
    """Return after the last update, on variants [first, last)."""
    returns: list[float] = adapt(spec, candidate, first, last, home)[0][:, -1].tolist()
    return returns


def train_told(spec: BaselineSpec, stem: Path) -> None:
    """Train and save the task-conditioned policy."""
    model = train_over_variants(spec.told_ppo(), spec.family(), spec.told_steps)
    write_tensors(stem, weights_of(model))


def evaluate_told(spec: BaselineSpec, stem: Path) -> list[float]:
    """Mean return of the task-conditioned policy on each variant."""
    family, weights, found = spec.family(), read_tensors(stem), []
    for i, values in enumerate(spec.params):
        cfg = replace(spec.told_ppo(), seed=seed(spec.seed, i))
        env = ppo_env(cfg, family, make_task(family, **values), spec.episodes)
        model = with_weights(new_ppo(cfg, env, 2), weights)
        env.seed(cfg.seed)
        found.append(float(np.mean(play(model, env, spec.episodes)[0])))
    return found


def train_recurrent(spec: BaselineSpec, folder: Path) -> None:
    """Train a recurrent policy and save its checkpoint in the folder."""
    cfg = spec.recurrent()
    state = recurrent_ppo.train_recurrent(cfg, spec.family(), spec.env_steps)
    save_checkpoint(folder, cfg.family, state)


def train_alone(spec: BaselineSpec, values: dict[str, float]) -> float:
    """Mean return on a variant of PPO trained on that variant."""
    family = spec.family()
    task = make_task(family, **values)
    return train_on_variant(spec.alone_ppo(), family, task, spec.episodes, spec.oracle_steps)


def seed(*parts: int) -> int:
    """A 31-bit seed: SB3 accepts 32 bits, and each update adds to it."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0] >> 1)
