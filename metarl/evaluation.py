"""How well an agent adapts: returns after 0, 1, ... K steps on tasks it never saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.learner import check_spaces
from agents.memory import AnyAgent, MemoryAgent
from agents.rollout import check_finite
from agents.streams import stream
from envs import Family, RunError, Split, sample_tasks, task_values
from metarl.scripted import oracle_return
from metarl.statistics import Array, interval, iqm


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
    env_steps: Array  # (M, K + 1) steps in the world from which the agent had learned by then
    oracle: Array | None  # (M,) return of an agent that is told the task, where the family has one
    success: Array | None = None  # (M, K + 1) share of episodes, where the simulator notes it
    step_name: str = "inner steps"

    @property
    def steps(self) -> int:
        """K."""
        return int(self.returns.shape[1]) - 1

    @property
    def mean(self) -> Array:
        """(K + 1,)."""
        mean: Array = self.returns.mean(axis=0)
        return mean

    @property
    def ci95(self) -> Array:
        """Bootstrap 95 % interval of the mean over tasks, (K + 1, 2)."""
        return intervals(self.returns, self.seed)

    @property
    def gain_ci95(self) -> Array:
        """Interval of what each step count gains over no adaptation, paired by task, (K + 1, 2)."""
        return intervals(self.returns - self.returns[:, :1], self.seed)

    @property
    def iqm(self) -> Array:
        """Interquartile mean over tasks, (K + 1,)."""
        return np.array([iqm(column) for column in self.returns.T])

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
            "steps": self.steps,
            "step_name": self.step_name,
            "adaptation_env_steps": self.env_steps.mean(axis=0).tolist(),
            "return_mean": self.mean.tolist(),
            "return_ci95": self.ci95.tolist(),
            "return_iqm": self.iqm.tolist(),
            "gain_ci95": self.gain_ci95.tolist(),
            "success": None if self.success is None else self.success.mean(axis=0).tolist(),
            "oracle_mean": None if self.oracle is None else float(self.oracle.mean()),
            "per_task": [
                {
                    "params": params,
                    "returns": self.returns[n].tolist(),
                    "env_steps": self.env_steps[n].tolist(),
                    "oracle": None if self.oracle is None else float(self.oracle[n]),
                    "success": None if self.success is None else self.success[n].tolist(),
                }
                for n, params in enumerate(self.params)
            ],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Evaluation:
        """The evaluation that a record is of.

        Raises:
            KeyError: a record of an older metarl, which lacks something.
        """
        rows = record["per_task"]

        def column(name: str) -> Array | None:
            return None if rows[0][name] is None else np.array([row[name] for row in rows])

        return cls(
            family=record["family"],
            split=record["split"],
            seed=record["seed"],
            episodes=record["episodes"],
            params=[row["params"] for row in rows],
            returns=np.array([row["returns"] for row in rows]),
            env_steps=np.array([row["env_steps"] for row in rows]),
            oracle=column("oracle"),
            success=column("success"),
            step_name=record["step_name"],
        )

    def until(self, steps: int) -> Evaluation:
        """The evaluation of fewer steps, on the same episodes."""
        first = slice(steps + 1)
        return dataclasses.replace(
            self,
            returns=self.returns[:, first],
            env_steps=self.env_steps[:, first],
            success=None if self.success is None else self.success[:, first],
        )


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
        UsageError: the family has other spaces than the agent.
    """
    check_spaces(agent, family)
    device = agent.device
    gen = stream(seed, f"evaluate {split} tasks", 0, device)
    task = sample_tasks(family, tasks, gen, split, device)
    # What is tuned on validation must not know the starts and the chance events of the final test.
    kind = "validation " if split == "validation" else ""
    gens = [stream(seed, f"evaluate {kind}episodes", step, device) for step in range(steps + 1)]
    parts = [type(task)(*c) for c in zip(*(x.split(chunk) for x in task), strict=True)]
    adapted = [_adapt(agent, family, part, episodes, gens, watch) for part in parts]
    returns, spent, success = zip(*adapted, strict=True)
    return Evaluation(
        family.name,
        split,
        seed,
        episodes,
        task_values(task),
        np.concatenate(returns),
        np.concatenate(spent),
        oracle_return(family, task, episodes, stream(seed, f"{kind}oracle", 0, device)),
        np.concatenate(success) if success[0] is not None else None,
        agent.step_name,
    )


def _adapt(
    agent: AnyAgent,
    family: Family,
    task: Any,
    episodes: int,
    gens: list[torch.Generator | None],
    watch: Callable[[AnyAgent], None],
) -> tuple[Array, Array, Array | None]:
    """Return, steps spent, and share of successes where simulators tell, (n, K + 1) each."""
    returns, success = [], []
    spent = [torch.zeros(len(task[0]), device=agent.device)]
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
            played = data.alive.sum(dim=1)
            # Each trial of a memory learns from itself alone; a gradient, from all episodes.
            alone = isinstance(agent, MemoryAgent)
            spent.append(spent[-1] + (played.mean(dim=1) if alone else played.sum(dim=1)))
            agent = agent.learn(data)
    watch(agent)
    return _table(returns), _table(spent), _table(success) if success else None


def _table(columns: list[Tensor]) -> Array:
    """Columns (M,) side by side, on the host."""
    table: Array = torch.stack(columns, dim=1).cpu().double().numpy()
    return table


def intervals(x: Array, seed: int) -> Array:
    """95 % interval of the mean over rows, for each column, (columns, 2)."""
    return np.array([interval(column, seed) for column in x.T])
