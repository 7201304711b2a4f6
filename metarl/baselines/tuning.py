"""Tune PPO's settings for adaptation to a variant, on variants of the training split.

Each baseline gets the settings with which it adapts best, for a fair comparison. Successive halving
(Jamieson and Talwalkar 2016, arXiv:1502.07943) keeps this cheap: all candidates are evaluated on
the same few variants, and the best third continue with more of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from metarl.baselines.ppo_model import PPOSettings
from metarl.baselines.sb3_ppo import LongTraining

ROUNDS = (2, 4, 8)  # total training variants of a candidate at the end of each round
GOES_ON = 1 / 3  # share of candidates that continue, at least two
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
PASSES = ((10, 4), (10, 16))  # epochs and minibatches
ENTROPIES = (0.0, 0.02)  # entropy bonus of adaptation, per nat
LONG_ENTROPIES = (0.0, 0.05)  # of training over variants, so that policies don't saturate
SHARES = (0.03, 0.1, 0.3, 1.0)  # shares of that training after which snapshots are taken
BOTH_UNTIL = 0.1  # share of training with each entropy; then only the better one continues
HEADS = (1.0, 0.1, 0.02)  # factors of the last layer
SLOWER = (1.0, 0.3)  # learning rates from a snapshot, relative to that from scratch


class Snapshot(NamedTuple):
    """Weights after `done` of `chunks` chunks of a training over variants."""

    entropy: float
    done: int
    chunks: int

    @property
    def name(self) -> str:
        """File name without a suffix."""
        return f"multi-task-entropy-{self.entropy:g}-{self.done}-of-{self.chunks}"


@dataclass(frozen=True)
class Candidate:
    """Settings with which PPO adapts to a variant.

    Attributes:
        head: factor of the last layer before the first update.
        start: None for a random initialization.
    """

    lr: float
    epochs: int = 10
    minibatches: int = 4
    entropy: float = 0.0
    head: float = 1.0
    start: Snapshot | None = None

    def ppo(self, base: PPOSettings, seed: int) -> PPOSettings:
        """PPO's settings; those shared by all baselines of a family come from `base`."""
        tuned = {k: getattr(self, k) for k in ("lr", "epochs", "minibatches", "entropy")}
        return replace(base, seed=seed, **tuned)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Candidate:
        """The inverse of `asdict`."""
        start = record["start"]
        return cls(**{**record, "start": None if start is None else Snapshot(*start)})


Try = Callable[[Candidate, int, int], Future[list[float]]]  # on variants [a, b)


def from_scratch() -> list[Candidate]:
    """Candidates with a random initialization."""
    return [
        Candidate(lr, epochs, minibatches, entropy)
        for lr, (epochs, minibatches), entropy in product(RATES, PASSES, ENTROPIES)
    ]


def from_snapshots(snapshots: Iterable[Snapshot], scratch: Candidate) -> list[Candidate]:
    """Candidates that start from snapshots, with variations of the settings from scratch."""
    return [
        replace(scratch, lr=scratch.lr * slower, head=head, start=start)
        for start, head, slower in product(snapshots, HEADS, SLOWER)
    ]


def snapshots(plan: LongTraining, entropies: Iterable[float], late: bool) -> list[Snapshot]:
    """Snapshots of a training: those up to `BOTH_UNTIL`, or the later ones."""
    end = plan.until(BOTH_UNTIL)
    marks = sorted({plan.until(share) for share in SHARES})
    return [
        Snapshot(entropy, done, plan.chunks)
        for entropy in entropies
        for done in marks
        if (done > end) == late
    ]


def halving(
    candidates: Iterable[Candidate], scores: dict[Candidate, list[float]], play: Try
) -> Candidate:
    """Successive halving: the candidate with the highest mean return on training variants.

    Args:
        scores: returns on the variants evaluated so far, by candidate; updated in place.
    """
    remaining = list(candidates)
    for i, upto in enumerate(ROUNDS):
        jobs = {}
        for candidate in remaining:
            done = len(scores.setdefault(candidate, []))
            if done < upto:
                jobs[candidate] = play(candidate, done, upto)
        for candidate, job in jobs.items():
            scores[candidate] += job.result()
        remaining.sort(key=lambda c: -float(np.mean(scores[c][:upto])))
        last = i == len(ROUNDS) - 1
        remaining = remaining[: 1 if last else max(math.ceil(GOES_ON * len(remaining)), 2)]
    return remaining[0]


def tuning_key() -> list[Any]:
    """Everything that a choice depends on, except family and budget."""
    grid = [RATES, PASSES, ENTROPIES, LONG_ENTROPIES, SHARES, BOTH_UNTIL, HEADS, SLOWER]
    return [ROUNDS, GOES_ON, *grid]


def to_json(found: Candidate, scores: dict[Candidate, list[float]]) -> dict[str, Any]:
    """A record of the choice and of all candidates, best first."""
    order = sorted(scores, key=lambda c: (-len(scores[c]), -float(np.mean(scores[c]))))
    tried = [{**asdict(c), "returns": scores[c]} for c in order]
    return {"chosen": asdict(found), "tried": tried}


def scores_of(record: dict[str, Any]) -> dict[Candidate, list[float]]:
    """Returns on training variants by candidate, from a record of `to_json`."""
    rows = ({**row} for row in record["tried"])
    found = [(row.pop("returns"), row) for row in rows]
    return {Candidate.from_json(row): returns for returns, row in found}
