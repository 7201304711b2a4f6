"""Returns of baselines on the same variants with the same budget of adaptation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metarl.baselines import job_pool as job
from metarl.baselines import tuning
from metarl.baselines.baseline_spec import TOLD_ENTROPY, BaselineSpec
from metarl.baselines.baseline_spec import (
    Baseline as Baseline,  # for `from metarl.baselines.baselines import`
)
from metarl.baselines.cache import Record, digest, has_tensors, kept, numbers, write_record
from metarl.baselines.job_pool import JobPool
from metarl.baselines.recurrent_ppo import columns, evaluate_recurrent
from metarl.baselines.sb3_ppo import LongTraining
from metarl.baselines.tuning import Candidate, Snapshot
from metarl.experiment.checkpoint import checkpoints

PART = 5  # variants in one job
TOLD = "told the task"  # the row of the task-conditioned policy


def baselines(
    spec: BaselineSpec, folder: Path, report: Callable[[int, int], None] = lambda done, asked: None
) -> dict[str, Baseline]:
    """PPO from scratch, multi-task, recurrent and task-conditioned; and an oracle if specified.

    Earlier results in `folder`, of any agent, are reused.

    Args:
        report: called with the numbers of finished and of submitted jobs.
    Raises:
        UsageError: a file in `folder` is damaged.
    """
    home = folder / f"{spec.train.family.replace('/', '.')}-{digest(spec.key)[:10]}"
    write_record(home / "about.json", spec.key)
    with JobPool(report) as jobs:
        return Player(spec, home, jobs).everything()


@dataclass
class Player:
    """Schedules jobs as early as their inputs are known; skips those with cached results."""

    spec: BaselineSpec
    home: Path
    jobs: JobPool

    def __post_init__(self) -> None:
        self.plan = LongTraining(self.spec.family(), self.spec.env_steps)

    def everything(self) -> dict[str, Baseline]:
        """All rows; the best pretrained start is tuned in two stages."""
        spec, home = self.spec, self.home
        early = tuning.snapshots(self.plan, tuning.LONG_ENTROPIES, late=False)
        early_jobs = self._pretrain(early, None)
        scratch = self._tuned("scratch", tuning.from_scratch(), {})
        _wait(early_jobs)
        scores: dict[Candidate, list[float]] = {}
        best = self._tuned("early-start", tuning.from_snapshots(early, scratch), scores)
        last = max(s for s in early if best.start and s.entropy == best.start.entropy)
        late = tuning.snapshots(self.plan, (last.entropy,), late=True)
        late_jobs, other_jobs = self._pretrain(late, last), []
        told, memory = home / f"told-{spec.told_steps}", home / "recurrent"
        recurrent = spec.train.algo != "rl2"  # otherwise it would be compared with itself
        if recurrent and not checkpoints(memory):
            other_jobs.append(self.jobs.submit(job.train_recurrent, spec, memory))
        if not has_tensors(told):
            other_jobs.append(self.jobs.submit(job.train_told, spec, told))
        found = {"PPO from scratch": self._adapted("scratch", scratch)}
        if spec.oracle_steps:
            found["oracle"] = self.oracle()
        _wait(late_jobs)
        finalists = [c for c in scores if len(scores[c]) == max(tuning.ROUNDS)]
        candidates = [*finalists, *tuning.from_snapshots(late, scratch)]
        start = self._tuned("start", candidates, scores)
        found["multi-task, zero-shot"] = self._zero_shot([*early, *late])
        found["multi-task PPO"] = self._adapted("multi-task", start)
        _wait(other_jobs)
        if recurrent:
            found["recurrent PPO"] = self._recurrent(memory)
        found[TOLD] = self._told(told)
        return found

    def _pretrain(self, wanted: list[Snapshot], start: Snapshot | None) -> list[Future[None]]:
        """Submit a job for each entropy with missing snapshots."""
        by_entropy = [
            [s for s in wanted if s.entropy == entropy]
            for entropy in dict.fromkeys(s.entropy for s in wanted)
        ]
        return [
            self.jobs.submit(job.pretrain, self.spec, each, start, self.home)
            for each in by_entropy
            if not all(has_tensors(self.home / s.name) for s in each)
        ]

    def _tuned(
        self, name: str, candidates: list[Candidate], scores: dict[Candidate, list[float]]
    ) -> Candidate:
        """The best candidate on training variants.

        Args:
            scores: updated with the returns of all candidates.
        """
        spec = self.spec.tuning

        def submit(candidate: Candidate, first: int, last: int) -> Future[list[float]]:
            return self.jobs.submit(job.adapted_return, spec, candidate, first, last, self.home)

        choose = partial(tuning.halving, candidates, scores, submit)
        return self._chosen(name, candidates, scores, choose)

    def _chosen(
        self,
        name: str,
        candidates: list[Candidate],
        scores: dict[Candidate, list[float]],
        choose: Callable[[], Candidate],
    ) -> Candidate:
        """The cached choice for these settings, or the result of `choose`."""
        spec = self.spec
        key = digest([tuning.tuning_key(), spec.episodes, spec.budget, spec.steps])[:10]
        path = self.home / f"tuned-{key}" / f"{name}.json"

        def parse(record: Record) -> Candidate:
            scores.update(tuning.scores_of(record))
            found = Candidate.from_json(record["chosen"])
            if found not in candidates:
                raise ValueError(f"{found} is not a candidate")
            return found

        return kept(path, lambda: tuning.to_json(choose(), scores), parse)

    def _place(self) -> Path:
        spec = self.spec
        return self.home / f"{spec.split}-{digest([spec.seed, spec.params])[:10]}"

    def _adapted(self, name: str, candidate: Candidate, steps: int | None = None) -> Baseline:
        """PPO adapted to the variants of the evaluation."""
        spec = replace(self.spec, steps=self.spec.steps if steps is None else steps)
        total = len(spec.params)

        def make() -> Record:
            ranges = [(i, min(i + PART, total)) for i in range(0, total, PART)]
            jobs = [self.jobs.submit(job.adapt, spec, candidate, *r, self.home) for r in ranges]
            parts = zip(*(each.result() for each in jobs), strict=True)
            returns, env_steps = (np.concatenate(part).tolist() for part in parts)
            return {"params": spec.params, "returns": returns, "env_steps": env_steps}

        key = digest([asdict(candidate), spec.episodes, spec.budget, spec.steps])[:10]
        path, shape = self._place() / f"{name}-{key}.json", (total, spec.steps + 1)
        about = _about(candidate, self.plan.chunk)
        return kept(path, make, partial(_row, shape=shape, about=about))

    def _zero_shot(self, snapshots: list[Snapshot]) -> Baseline:
        """The snapshot with the highest return without adaptation, chosen on training variants."""
        spec = replace(self.spec.tuning, steps=0)
        candidates = [Candidate(lr=0.0, start=s) for s in snapshots]
        scores: dict[Candidate, list[float]] = {}

        def choose() -> Candidate:
            args = 0, len(spec.params), self.home
            jobs = {c: self.jobs.submit(job.adapted_return, spec, c, *args) for c in candidates}
            scores.update({c: each.result() for c, each in jobs.items()})
            return max(candidates, key=lambda c: np.mean(scores[c]))

        found = self._chosen("zero-shot", candidates, scores, choose)
        return self._adapted("zero-shot", found, steps=0)

    def _recurrent(self, folder: Path) -> Baseline:
        """Recurrent PPO; column k is the return in the episode after k updates' worth of episodes.

        See `recurrent_ppo.columns`.
        """
        spec, cfg = self.spec, self.spec.recurrent()

        def make() -> Record:
            args = spec.split, len(spec.params), spec.episodes, spec.seed
            result = evaluate_recurrent(cfg, spec.family(), folder, *args)
            returns, env_steps = result.returns.tolist(), result.env_steps.tolist()
            return {"params": result.params, "returns": returns, "env_steps": env_steps}

        path = self._place() / f"recurrent-{spec.episodes}.json"
        which = columns(cfg.trial, spec.budget, spec.steps)
        about = {
            "algo": cfg.algo,
            "trained_env_steps": spec.env_steps,
            "episodes_of_a_trial": cfg.trial,
            "remembered_episodes": which.tolist(),
        }
        shape = len(spec.params), cfg.trial
        row = kept(path, make, partial(_row, shape=shape, about=about))
        return row._replace(returns=row.returns[:, which], env_steps=row.env_steps[:, which])

    def _told(self, stem: Path) -> Baseline:
        def make() -> Record:
            returns = self.jobs.submit(job.evaluate_told, self.spec, stem).result()
            return {"params": self.spec.params, "returns": returns}

        path = self._place() / f"{stem.name}-{self.spec.episodes}.json"
        about = {"trained_env_steps": self.spec.told_steps, "entropy": TOLD_ENTROPY}
        return kept(path, make, partial(_one_column, self.spec, 0, about))

    def oracle(self) -> Baseline:
        """PPO trained on each variant separately; equal variants are trained once."""
        spec = self.spec

        def make() -> Record:
            each = {digest(p): p for p in spec.params}
            jobs = {k: self.jobs.submit(job.train_alone, spec, p) for k, p in each.items()}
            returns = [jobs[digest(p)].result() for p in spec.params]
            return {"params": spec.params, "returns": returns}

        name = f"oracle-{spec.oracle_steps}-{spec.episodes}.json"
        return kept(self._place() / name, make, partial(_one_column, spec, spec.oracle_steps, {}))


def _row(record: Record, shape: tuple[int, int], about: Mapping[str, Any]) -> Baseline:
    return Baseline(numbers(record["returns"], *shape), numbers(record["env_steps"], *shape), about)


def _one_column(
    spec: BaselineSpec, env_steps: int, about: Mapping[str, Any], record: Record
) -> Baseline:
    column = numbers(record["returns"], len(spec.params))[:, None]
    return Baseline(column, np.full_like(column, env_steps), about)


def _about(candidate: Candidate, chunk: int) -> dict[str, Any]:
    """The chosen settings, with readable names."""
    about = asdict(candidate)
    start = about.pop("start")
    if start is None:
        del about["head"]
        return about
    start = Snapshot(*start)
    training = {
        "pretrained_env_steps": start.done * chunk,
        "pretrained_share": start.done / start.chunks,
        "pretraining_entropy": start.entropy,
    }
    if candidate.lr == 0:  # no adaptation
        return training
    return {**training, "head_scale": about.pop("head"), **about}


def _wait(jobs: list[Future[Any]]) -> None:
    for each in jobs:
        each.result()
