"""Whether an agent adapts, beside what plain alternatives reach, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metarl.baselines import Baseline
from metarl.evaluation import Evaluation
from metarl.statistics import Array, interval


@dataclass(frozen=True)
class Scale:
    """Random play is 0 and the oracle 1, by the means over the same tasks."""

    random: float
    oracle: float

    def share(self, returns: Array) -> float | None:
        """Where the mean of returns (M,) lies; None where the oracle is no better than chance."""
        span = self.oracle - self.random
        return (float(returns.mean()) - self.random) / span if span > 0 else None


def verdict(result: Evaluation, others: Mapping[str, Baseline], scale: Scale | None) -> str:
    """One sentence: gain over the start, share of the oracle, what multi-task PPO reaches."""
    last = result.returns[:, -1]
    gain = last - result.returns[:, 0]
    low, high = interval(gain, result.seed)
    does = "adapts" if low > 0 else "does not adapt"
    said = [f"{does}: {gain.mean():+.2f} [{low:.2f}, {high:.2f}] over its start"]
    if scale and (share := scale.share(last)) is not None:
        said.append(f"{share:.0%} of the oracle")
    for name, other in others.items():
        reached = other.returns[:, -1]
        part = scale.share(reached) if scale else None
        amount = f"{reached.mean():.2f}" if part is None else f"{part:.0%}"
        said.append(f"{name} reaches {amount} ({against(last, reached, result.seed)})")
    return "; ".join(said) + "."


def against(ours: Array, theirs: Array, seed: int) -> str:
    """Whether returns (M,) on the same tasks are above, below or level, 95 % interval."""
    low, high = interval(ours - theirs, seed)
    mean = float(np.mean(ours - theirs))
    word = "the agent is above" if low > 0 else "the agent is below" if high < 0 else "level"
    return f"{word}: {mean:+.2f} [{low:.2f}, {high:.2f}]"
