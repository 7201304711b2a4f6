"""How well an agent adapts: returns after 0, 1, ... K steps on tasks it never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.memory import AnyAgent
from agents.rollout import check_finite
from agents.streams import stream
from envs import Family, RunError, Split, TensorSimulator, sample_tasks, task_values

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Evaluation:
    """Mean return of each task (M tasks) after each of 0 ... K steps of adaptation.

    A step is an inner step from `episodes` episodes; or, of an agent that remembers, one more
    episode of each of `episodes` trials, which know nothing of each other.
    """

    family: str
    split: Split
    seed: int
    episodes: int
    params: list[dict[str, float]]  # M
    returns: Array  # (M, K + 1)
    oracle: Array | None  # (M,) return of an agent that is told the task, where the family has one
    success: Array | None = None  # (M, K + 1) share of episodes, where the simulator notes it
    step_name: str = "inner steps"

    @property
    def mean(self) -> Array:
        """(K + 1,)."""
        mean: Array = self.returns.mean(axis=0)
        return mean

    @property
    def ci95(self) -> Array:
        """Bootstrap 95 % interval of the mean over tasks, (K + 1, 2)."""
        return bootstrap(self.returns, self.seed)

    @property
    def gain_ci95(self) -> Array:
        """Interval of what each step count gains over no adaptation, paired by task, (K + 1, 2)."""
        return bootstrap(self.returns - self.returns[:, :1], self.seed)

    @property
    def iqm(self) -> Array:
        """Interquartile mean over tasks, (K + 1,)."""
        return interquartile_mean(self.returns)

    def to_json(self, algo: str, env_steps_trained: int) -> dict[str, Any]:
        """The record that `metarl evaluate --json` writes; lists run over steps 0 ... K."""
        return {
            "family": self.family,
            "algo": algo,
            "split": self.split,
            "seed": self.seed,
            "tasks": len(self.params),
            "episodes": self.episodes,
            "env_steps_trained": env_steps_trained,
            "steps": self.returns.shape[1] - 1,
            "step_name": self.step_name,
            "return_mean": self.mean.tolist(),
            "return_ci95": self.ci95.tolist(),
            "return_iqm": self.iqm.tolist(),
            "gain_ci95": self.gain_ci95.tolist(),
            "success": None if self.success is None else self.success.mean(axis=0).tolist(),
            "oracle_mean": None if self.oracle is None else float(self.oracle.mean()),
            "per_task": [
                {"params": p, "returns": r.tolist()}
                for p, r in zip(self.params, self.returns, strict=True)
            ],
        }


def evaluate(
    agent: AnyAgent,
    family: Family,
    split: Split = "test",
    tasks: int = 40,
    episodes: int = 20,
    steps: int = 3,
    seed: int = 0,
    chunk: int = 50,
    watch: Callable[[AnyAgent], None] = lambda adapted: None,
) -> Evaluation:
    """Adapt to tasks of a split, from streams that training never uses.

    The return after k steps is that of the episodes played with the weights after k steps;
    these same episodes feed step k + 1.

    Args:
        chunk: tasks in one tensor program, which bounds memory.
        watch: called with the agent that has adapted to each chunk.
    Raises:
        RunError: the family, or adaptation, gave a NaN or infinity.
    """
    device = agent.device
    gen = stream(seed, f"evaluate {split} tasks", 0, device)
    task = sample_tasks(family, tasks, gen, split, device)
    gens = [stream(seed, "evaluate episodes", step, device) for step in range(steps + 1)]
    parts = [type(task)(*c) for c in zip(*(x.split(chunk) for x in task), strict=True)]
    adapted = [_adapt(agent, family, part, episodes, gens, watch) for part in parts]
    returns = [each for each, _ in adapted]
    success = [each for _, each in adapted if each is not None]
    return Evaluation(
        family.name,
        split,
        seed,
        episodes,
        task_values(task),
        np.concatenate(returns),
        oracle_return(family, task, episodes, stream(seed, "oracle", 0, device)),
        np.concatenate(success) if success else None,
        agent.step_name,
    )


def _adapt(
    agent: AnyAgent,
    family: Family,
    task: Any,
    episodes: int,
    gens: list[torch.Generator | None],
    watch: Callable[[AnyAgent], None],
) -> tuple[Array, Array | None]:
    """Return, and share of successes where simulators tell, after each of K steps, (n, K + 1)."""
    returns, success = [], []
    for step, gen in enumerate(gens):
        data = agent.play(family, task, episodes, gen)
        check_finite(family, task, data)
        if not all(x.isfinite().all() for x in data.dist):
            raise RunError(
                f"the agent's weights are not finite after {step} inner steps: "
                "train again with a lower --inner-lr."
            )
        returns.append(data.episode_return().mean(dim=1))
        if "success" in data.notes:
            success.append(data.notes["success"].mean(dim=1))
        if step < len(gens) - 1:
            agent = agent.learn(data)
    watch(agent)
    return _table(returns), _table(success) if success else None


def _table(columns: list[Tensor]) -> Array:
    """Columns (M,) side by side, on the host."""
    table: Array = torch.stack(columns, dim=1).cpu().double().numpy()
    return table


@torch.no_grad()
def oracle_return(
    family: Family, task: Any, episodes: int, gen: torch.Generator | None
) -> Array | None:
    """Mean return of each task under the family's own `oracle`, (M,); None without one."""
    if not hasattr(family, "oracle") or hasattr(family, "simulate"):
        return None
    simulator = TensorSimulator(family, task, episodes, gen)
    simulator.reset()
    total = torch.zeros(len(task[0]), episodes, device=task[0].device)
    alive = torch.ones_like(total, dtype=torch.bool)
    for _ in range(family.horizon):
        _, rew, terminated, _ = simulator.step(family.oracle(simulator.state, task))
        total = total + torch.where(alive, rew, 0)
        alive = alive & ~terminated
    result: Array = total.mean(dim=1).cpu().double().numpy()
    return result


def bootstrap(x: Array, seed: int, draws: int = 10_000) -> Array:
    """Percentile 95 % interval of the mean over rows, (columns, 2).

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    n = len(x)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
    result: Array = np.percentile(counts @ x / n, [2.5, 97.5], axis=0).T
    return result


def interquartile_mean(x: Array) -> Array:
    """Mean over rows of what is left without the lowest and the highest quarter.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), section 4.3.
    """
    cut = len(x) // 4
    result: Array = np.sort(x, axis=0)[cut : len(x) - cut].mean(axis=0)
    return result
