"""Compare a recurrent agent with classical rules that know its family."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from metarl.agents.classical.scores import comparators
from metarl.agents.learners.recurrent_agent import AnyAgent, MemoryAgent
from metarl.agents.rng import stream
from metarl.envs import Family, Split, UsageError, sample_tasks
from metarl.evaluation.evaluate import Evaluation


def compare(
    agent: AnyAgent, family: Family, result: Evaluation, split: Split, seed: int
) -> dict[str, float]:
    """Mean total return of a trial for the agent and each rule, on the tasks of the evaluation.

    Raises:
        UsageError: the agent adapts its weights, so it has no trials; or the family has no
            comparators.
    """
    if not isinstance(agent, MemoryAgent):
        raise UsageError(
            "--comparators: they adapt within a trial, and this agent adapts its weights; give a "
            "run with --memory, such as one of --algo rl2."
        )
    gen = stream(seed, f"evaluate {split} tasks")
    task = sample_tasks(family, len(result.params), gen, split)
    episodes = result.returns.shape[1]
    noise = stream(seed, "comparators")
    totals = comparators(family, task, episodes, result.episodes, noise)
    if not totals:
        raise UsageError(
            f"--comparators: there are none for {family.name}; give a run of bandit or "
            "tabular-mdp, or leave it out."
        )
    return {"this agent": float(result.returns.sum(axis=1).mean()), **totals}


def show_comparison(console: Console, totals: dict[str, float], episodes: int) -> None:
    """Print total returns, highest first."""
    kind = "episode" if episodes == 1 else "episodes"
    table = Table(box=box.SIMPLE_HEAD, title=f"total in a trial of {episodes} {kind}")
    table.add_column("")
    table.add_column("return", justify="right")
    for name, total in sorted(totals.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{total:.2f}")
    console.print(table)
