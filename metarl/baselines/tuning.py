"""Settings of PPO for adapting to a variant, chosen on variants of the training split.

Each baseline is given the settings with which it adapts best, so that the comparison is with the
best that a plain alternative can do. Successive halving (Jamieson and Talwalkar 2016,
arXiv:1502.07943) keeps that cheap: all candidates play the same few variants, the better third goes
on to more of them.
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

ROUNDS = (2, 4, 8)  # training variants that a candidate has played by the end of each round
GOES_ON = 1 / 3  # of the candidates, two at least
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
PASSES = ((10, 4), (10, 16))  # epochs and minibatches
ENTROPIES = (0.0, 0.02)  # nats, of adapting
LONG_ENTROPIES = (0.0, 0.05)  # of training over variants, which must not end saturated
SHARES = (0.03, 0.1, 0.3, 1.0)  # of that training, after which its weights are a start
BOTH_UNTIL = 0.1  # the share to which it goes with each entropy; the better one goes on
HEADS = (1.0, 0.1, 0.02)  # factors of the last layer
SLOWER = (1.0, 0.3)  # step sizes from a trained start, as a part of that from scratch


class Snapshot(NamedTuple):
    """Weights after some of the chunks of a training over variants."""

    entropy: float
    done: int
    chunks: int

    @property
    def name(self) -> str:
        """Of its file, without an ending."""
        return f"multi-task-entropy-{self.entropy:g}-{self.done}-of-{self.chunks}"


@dataclass(frozen=True)
class Candidate:
    """How PPO adapts to a variant.

    Attributes:
        head: factor of the last layer before the first update.
        start: None for fresh weights.
    """

    lr: float
    epochs: int = 10
    minibatches: int = 4
    entropy: float = 0.0
    head: float = 1.0
    start: Snapshot | None = None

    def ppo(self, base: PPOSettings, seed: int) -> PPOSettings:
        """PPO's settings, with what a family shares among all agents from `base`."""
        own = {k: getattr(self, k) for k in ("lr", "epochs", "minibatches", "entropy")}
        return replace(base, seed=seed, **own)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Candidate:
        """The one that `asdict` made the record of."""
        start = record["start"]
        return cls(**{**record, "start": None if start is None else Snapshot(*start)})


Try = Callable[[Candidate, int, int], Future[list[float]]]  # on variants [a, b)


def from_scratch() -> list[Candidate]:
    """Candidates that begin with fresh weights."""
    return [
        Candidate(lr, epochs, minibatches, entropy)
        for lr, (epochs, minibatches), entropy in product(RATES, PASSES, ENTROPIES)
    ]


def from_snapshots(snapshots: Iterable[Snapshot], scratch: Candidate) -> list[Candidate]:
    """Candidates that begin with these, and otherwise adapt much as one from scratch does."""
    return [
        replace(scratch, lr=scratch.lr * slower, head=head, start=start)
        for start, head, slower in product(snapshots, HEADS, SLOWER)
    ]


def snapshots(plan: LongTraining, entropies: Iterable[float], late: bool) -> list[Snapshot]:
    """The starts of a training: those up to which all entropies are tried, or the later ones."""
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
    """The candidate with the highest mean return on training variants, of those that got so far.

    Args:
        scores: return on each variant played so far, by candidate; filled.
    """
    left = list(candidates)
    for i, upto in enumerate(ROUNDS):
        jobs = {}
        for each in left:
            begun = len(scores.setdefault(each, []))
            if begun < upto:
                jobs[each] = play(each, begun, upto)
        for each, job in jobs.items():
            scores[each] += job.result()
        left.sort(key=lambda c: -float(np.mean(scores[c][:upto])))
        last = i == len(ROUNDS) - 1
        left = left[: 1 if last else max(math.ceil(GOES_ON * len(left)), 2)]
    return left[0]


def tuning_key() -> list[Any]:
    """All that a choice depends on beside family and budget."""
    grid = [RATES, PASSES, ENTROPIES, LONG_ENTROPIES, SHARES, BOTH_UNTIL, HEADS, SLOWER]
    return [ROUNDS, GOES_ON, *grid]


def to_json(found: Candidate, scores: dict[Candidate, list[float]]) -> dict[str, Any]:
    """The choice, and all that was tried for it, best first."""
    order = sorted(scores, key=lambda c: (-len(scores[c]), -float(np.mean(scores[c]))))
    tried = [{**asdict(c), "returns": scores[c]} for c in order]
    return {"chosen": asdict(found), "tried": tried}


def scores_of(record: dict[str, Any]) -> dict[Candidate, list[float]]:
    """Return on each training variant, by candidate, of what `to_json` made."""
    rows = ({**row} for row in record["tried"])
    found = [(row.pop("returns"), row) for row in rows]
    return {Candidate.from_json(row): returns for returns, row in found}
