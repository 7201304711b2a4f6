"""What plain alternatives get on the same variants with the same budget of adaptation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from agents.streams import stream
from envs import Family, Split, make_task, sample_tasks, task_values
from metarl.checkpoint import write_atomically
from metarl.config import RunConfig, TrainConfig
from metarl.family_record import recorded_family
from metarl.machine import cores
from metarl.ppo import (
    PPOSettings,
    adapt_to_variant,
    load_ppo,
    train_on_variant,
    train_over_variants,
)
from metarl.presets import preset
from metarl.statistics import Array

FORMAT = 1  # of the cache: what another one wrote is not read
RATES = (1e-3, 3e-3, 1e-2, 3e-2)  # step sizes of PPO, of which the best on training variants counts
LONG_RATE, LONG_EPOCHS = 1e-3, 4  # of a training over many variants, or to the end on one
TUNED_ON = 8  # training variants
PART = 5  # variants in one job
TUNING_SEED = 1_000_000

Params = tuple[dict[str, float], ...]


class Baseline(NamedTuple):
    """Mean return of each of M tasks after 0 ... K updates, and the steps spent by then."""

    returns: Array  # (M, K + 1)
    env_steps: Array  # (M, K + 1)


@dataclass(frozen=True)
class Contest:
    """The variants, how much of them may be played to adapt, and how long PPO is trained before.

    Attributes:
        episodes: that a return is the mean of.
        budget: episodes from which each of K updates learns.
        params: M variants.
        env_steps: of multi-task PPO over the training variants.
        oracle_steps: of PPO on each variant where the family knows no best play; 0 for none.
        record: of the family's fields, as the run has it.
    """

    train: TrainConfig
    run: RunConfig
    split: Split
    seed: int
    episodes: int
    budget: int
    steps: int
    params: Params
    env_steps: int
    oracle_steps: int = 0
    record: Mapping[str, Any] = field(default_factory=dict)

    def family(self) -> Family:
        """The family that the run was started on; each process has to build its own."""
        return recorded_family(self.train, self.run, self.record)

    def ppo(self, lr: float) -> PPOSettings:
        """Discount, credit and network as the family's own agents have them."""
        cfg = preset(self.train.family)
        return PPOSettings(cfg.gamma, cfg.gae_lambda, cfg.hidden, lr)

    def long_ppo(self) -> PPOSettings:
        """For a long training, which has no want of new episodes."""
        return replace(self.ppo(LONG_RATE), epochs=LONG_EPOCHS)

    @property
    def world(self) -> dict[str, Any]:
        """What a model of PPO depends on."""
        named = {k: getattr(self.train, k) for k in ("vary", "hold_out", "extrapolate", "set")}
        about = {
            "family": self.train.family,
            **named,
            "record": self.record,
            **asdict(self.long_ppo()),
        }
        return {"format": FORMAT, **about, "env_steps": self.env_steps}


@dataclass
class Work:
    """A pool of processes, one for each core, and a folder where results stay."""

    pool: ProcessPoolExecutor
    home: Path
    report: Callable[[int, int], None]
    asked: int = 0
    done: int = 0

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Start a job, and tell of its end."""
        self.asked += 1
        future = self.pool.submit(function, *args)
        future.add_done_callback(self._finished)
        return future

    def _finished(self, _: Future[Any]) -> None:
        self.done += 1
        self.report(self.done, self.asked)

    def kept(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The record of that name, made if it isn't there."""
        path = self.home / f"{name}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(make()).encode())
        record: dict[str, Any] = json.loads(path.read_text())
        return record


def baselines(
    contest: Contest, folder: Path, report: Callable[[int, int], None] = lambda done, asked: None
) -> dict[str, Baseline]:
    """PPO from scratch; multi-task PPO, zero-shot and fine-tuned; an oracle where one is wanted.

    What was trained or played before, for whatever agent, is read from `folder`.

    Args:
        report: told how many jobs are done, of how many that were asked for so far.
    """
    home = folder / f"{contest.train.family.replace('/', '.')}-{_digest(contest.world)}"
    home.mkdir(parents=True, exist_ok=True)
    write_atomically(home / "about.json", json.dumps(contest.world, indent=1).encode())
    pool = ProcessPoolExecutor(cores(), get_context("spawn"), torch.set_num_threads, (1,))
    work = Work(pool, home, report)
    try:
        model = home / "multi-task.zip"
        ready = None if model.exists() else work.submit(_train_over_variants, contest, model)
        found = {"PPO from scratch": _adapted(work, contest, "scratch", None)}
        if contest.oracle_steps:
            found["oracle"] = _oracle(work, contest)
        if ready:
            ready.result()
        found["multi-task PPO"] = _adapted(work, contest, "fine-tuned", model)
        return found
    finally:
        pool.shutdown(cancel_futures=True)


def _adapted(work: Work, contest: Contest, name: str, start: Path | None) -> Baseline:
    """PPO from a start, its step size chosen on training variants, on the variants of a contest."""
    budget = f"{contest.episodes}-{contest.budget}x{contest.steps}"

    def tune() -> dict[str, Any]:
        gen = stream(TUNING_SEED, "variants of training")
        chosen = task_values(sample_tasks(contest.family(), TUNED_ON, gen))
        trial = replace(contest, params=tuple(chosen), seed=TUNING_SEED)
        jobs = [work.submit(_adapt, trial, lr, start) for lr in RATES]
        last = [float(job.result().returns[:, -1].mean()) for job in jobs]
        return {
            "lr": RATES[int(np.argmax(last))],
            "return_by_lr": dict(zip(RATES, last, strict=True)),
        }

    def play() -> dict[str, Any]:
        lr = work.kept(f"{name}-tuned-{budget}", tune)["lr"]
        parts = [contest.params[i : i + PART] for i in range(0, len(contest.params), PART)]
        jobs = [work.submit(_adapt, replace(contest, params=part), lr, start) for part in parts]
        columns = zip(*(job.result() for job in jobs), strict=True)
        returns, spent = (np.concatenate(part).tolist() for part in columns)
        return {"lr": lr, "params": contest.params, "returns": returns, "env_steps": spent}

    record = work.kept(f"{_place(contest)}/{name}-{budget}", play)
    return Baseline(np.array(record["returns"]), np.array(record["env_steps"]))


def _oracle(work: Work, contest: Contest) -> Baseline:
    """PPO trained on each variant for itself; the same variant once."""

    def make() -> dict[str, Any]:
        each = {_digest(p): p for p in contest.params}
        jobs = {k: work.submit(_train_on_variant, contest, p) for k, p in each.items()}
        returns = [jobs[_digest(p)].result() for p in contest.params]
        return {"params": contest.params, "returns": returns}

    record = work.kept(f"{_place(contest)}/oracle-{contest.oracle_steps}", make)
    returns = np.array(record["returns"])[:, None]
    return Baseline(returns, np.full_like(returns, contest.oracle_steps))


def _train_over_variants(contest: Contest, path: Path) -> None:
    """In a process of its own."""
    model = train_over_variants(contest.long_ppo(), contest.family(), contest.env_steps)
    half = path.with_suffix(".part.zip")
    model.save(half)
    half.replace(path)


def _adapt(contest: Contest, lr: float, start: Path | None) -> Baseline:
    """In a process of its own."""
    family, cfg = contest.family(), contest.ppo(lr)
    model = load_ppo(start) if start else None
    found = []
    for i, values in enumerate(contest.params):
        each = replace(cfg, seed=_seed(contest.seed, i))
        task = make_task(family, **values)
        budget = contest.episodes, contest.budget, contest.steps
        found.append(adapt_to_variant(each, family, task, *budget, model))
    returns, spent = (np.stack(column) for column in zip(*found, strict=True))
    return Baseline(returns, spent)


def _train_on_variant(contest: Contest, values: dict[str, float]) -> float:
    """In a process of its own."""
    family = contest.family()
    task = make_task(family, **values)
    return train_on_variant(
        contest.long_ppo(), family, task, contest.episodes, contest.oracle_steps
    )


def _seed(*parts: int) -> int:
    """31 bits, since SB3 takes no more than 32 and every update adds to it."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0] >> 1)


def _place(contest: Contest) -> str:
    return f"{contest.split}-{_digest([contest.seed, contest.params])}"


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:10]
