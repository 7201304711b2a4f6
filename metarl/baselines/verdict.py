"""A one-sentence verdict: whether an agent adapts, and what baselines reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metarl.baselines.baselines import Baseline
from metarl.evaluation.evaluate import Evaluation
from metarl.evaluation.statistics import Array, difference_interval


@dataclass(frozen=True)
class Scale:
    """Normalization of returns: random actions are 0 and the oracle is 1, on the same tasks."""

    random: float
    oracle: float

    def share(self, returns: Array) -> float | None:
        """Normalized mean of returns (M,); None if the oracle is no better than random actions."""
        span = self.oracle - self.random
        return (float(returns.mean()) - self.random) / span if span > 0 else None


def verdict(result: Evaluation, others: Mapping[str, Baseline], scale: Scale | None) -> str:
    """One sentence: gain by adaptation, share of the oracle, and the best baseline."""
    last = result.returns[:, -1]
    gain, (low, high) = float((last - result.returns[:, 0]).mean()), result.gain_ci95[-1]
    effect = "adapts" if low > 0 else "adaptation harms" if high < 0 else "no significant gain"
    parts = [f"{effect}: {_shown(gain, low, high)} over its start ({result.intervals})"]
    if scale and (share := scale.share(last)) is not None:
        parts.append(f"{share:.0%} of the oracle")
    if others:
        name = max(others, key=lambda name: others[name].returns[:, -1].mean())
        reached = others[name].returns[:, -1]
        best = scale.share(reached) if scale else None
        amount = f"{reached.mean():.2f}" if best is None else f"{best:.0%}"
        parts.append(
            f"the best baseline, {name.rstrip(',')}, reaches {amount} ({against(result, reached)})"
        )
    return "; ".join(parts) + "."


def against(result: Evaluation, theirs: Array) -> str:
    """Compare the agent's final returns with others (M,) on the same tasks, 95 % interval."""
    ours = result.returns[:, -1]
    bounds = min(result.bounds[0], theirs.min()), max(result.bounds[1], theirs.max())
    low, high = difference_interval(ours, theirs, bounds, result.task)
    summary = "no significant difference"
    if low > 0 or high < 0:
        summary = f"the agent is {'above' if low > 0 else 'below'}"
    return f"{summary}: {_shown(float((ours - theirs).mean()), low, high)}"


def _shown(mean: float, low: float, high: float) -> str:
    return f"{mean:+.2f} [{low:.2f}, {high:.2f}]"
