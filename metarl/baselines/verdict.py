"""Whether an agent adapts, and what plain alternatives reach, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metarl.baselines.baselines import Baseline
from metarl.evaluation.evaluate import Evaluation
from metarl.evaluation.statistics import Array, difference_interval


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
    """One sentence: gain over the start, share of the oracle, the best of the alternatives."""
    last = result.returns[:, -1]
    gain, (low, high) = float((last - result.returns[:, 0]).mean()), result.gain_ci95[-1]
    does = "adapts" if low > 0 else "adaptation harms" if high < 0 else "no significant gain"
    said = [f"{does}: {_shown(gain, low, high)} over its start ({result.intervals})"]
    if scale and (share := scale.share(last)) is not None:
        said.append(f"{share:.0%} of the oracle")
    if others:
        name = max(others, key=lambda name: others[name].returns[:, -1].mean())
        reached = others[name].returns[:, -1]
        part = scale.share(reached) if scale else None
        amount = f"{reached.mean():.2f}" if part is None else f"{part:.0%}"
        said.append(
            f"the best plain alternative, {name.rstrip(',')}, reaches {amount} "
            f"({against(result, reached)})"
        )
    return "; ".join(said) + "."


def against(result: Evaluation, theirs: Array) -> str:
    """Whether the agent ends above or below returns (M,) on the same tasks, 95 % interval."""
    ours = result.returns[:, -1]
    bounds = min(result.bounds[0], theirs.min()), max(result.bounds[1], theirs.max())
    low, high = difference_interval(ours, theirs, bounds, result.task)
    word = "no significant difference"
    if low > 0 or high < 0:
        word = f"the agent is {'above' if low > 0 else 'below'}"
    return f"{word}: {_shown(float((ours - theirs).mean()), low, high)}"


def _shown(mean: float, low: float, high: float) -> str:
    return f"{mean:+.2f} [{low:.2f}, {high:.2f}]"
