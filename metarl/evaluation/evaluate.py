"""Evaluate adaptation: returns after 0, 1, ... K steps on tasks unseen in training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from metarl.agents.learners.base import check_spaces
from metarl.agents.learners.recurrent_agent import AnyAgent, MemoryAgent
from metarl.agents.rng import stream
from metarl.agents.rollouts.rollout import Rollout, check_finite
from metarl.envs import Choice, Family, RunError, Split, parameters, sample_tasks, task_values
from metarl.evaluation.data_frame import data_frame
from metarl.evaluation.scripted_policies import oracle_return
from metarl.evaluation.statistics import Array, Ends, difference_interval, half_width, interval, iqm

if TYPE_CHECKING:
    import pandas as pd

FEW_TASKS = 4  # splits of at most this many tasks are exhaustive: intervals are over episodes


@dataclass(frozen=True)
class Evaluation:
    """Mean return of each task (M tasks) after each of 0 ... K steps of adaptation.

    A step is an inner step on `episodes` episodes; for a recurrent agent, it is one more episode of
    each of `episodes` independent trials.
    """

    family: str
    split: Split
    seed: int
    episodes: int
    params: list[dict[str, float]]  # M
    returns: Array  # (M, K + 1)
    env_steps: Array  # (M, K + 1) environment steps that adaptation has used so far
    oracle: Array | None  # (M,) return of a policy that knows the task, if the family has one
    success: Array | None = None  # (M, K + 1) share of successful episodes, if reported
    step_name: str = "inner steps"
    standard_error: Array | None = None  # (M, K + 1) of each return, over its episodes
    few_tasks: bool = False  # the split has at most `FEW_TASKS` tasks, and all are here
    deterministic: bool = False  # returns are those of the most likely actions

    def __repr__(self) -> str:
        before, after = self.mean[0], self.mean[-1]
        how = ", most likely actions" if self.deterministic else ""
        return (
            f"Evaluation({self.family}: {len(self.params)} {self.split} tasks, mean return "
            f"{before:.2f} -> {after:.2f} after {self.steps} {self.step_name}{how})"
        )

    @property
    def steps(self) -> int:
        """Number of adaptation steps K."""
        return int(self.returns.shape[1]) - 1

    @property
    def mean(self) -> Array:
        """Mean return over tasks, (K + 1,)."""
        mean: Array = self.returns.mean(axis=0)
        return mean

    @property
    def task(self) -> Array | None:
        """Task index of each column if `few_tasks`, (M,); None if the tasks are a sample."""
        if not self.few_tasks:
            return None
        each = np.array([list(p.values()) for p in self.params])
        number: Array = np.unique(each, axis=0, return_inverse=True)[1].reshape(-1).astype(float)
        return number

    @property
    def intervals(self) -> str:
        """What the 95 % intervals cover, for display."""
        if self.task is None:
            return "this run, over tasks"
        count = len(np.unique(self.task))
        return f"this run, over episodes of its {count} task{'s' if count > 1 else ''}"

    @property
    def bounds(self) -> Ends:
        """Lowest and highest return of any task at any step, including the oracle's."""
        returns = self.returns if self.oracle is None else np.c_[self.returns, self.oracle]
        return float(returns.min()), float(returns.max())

    @property
    def ci95(self) -> Array:
        """95 % interval of the mean, (K + 1, 2)."""
        half_widths = [self._over_episodes(k) for k in range(self.steps + 1)]
        columns = zip(self.returns.T, half_widths, strict=True)
        return np.array([interval(x, self.bounds, self.task, half) for x, half in columns])

    @property
    def gain_ci95(self) -> Array:
        """95 % interval of the gain over no adaptation, paired by task, (K + 1, 2)."""
        intervals = [(0.0, 0.0)]
        for k in range(1, self.steps + 1):
            after, before = self._over_episodes(k), self._over_episodes(0)
            half = None if after is None or before is None else np.hypot(after, before)
            x, y = self.returns[:, k], self.returns[:, 0]
            intervals.append(difference_interval(x, y, self.bounds, self.task, half))
        return np.array(intervals)

    def _over_episodes(self, step: int) -> Array | None:
        """Half-width of the interval of each task's return over its episodes, (M,)."""
        if self.standard_error is None:
            return None
        half: Array = half_width(self.standard_error[:, step], self.episodes)
        return half

    @property
    def iqm(self) -> Array:
        """Interquartile mean over tasks, (K + 1,)."""
        return np.array([iqm(column) for column in self.returns.T])

    def to_json(self, algo: str, env_steps_trained: int) -> dict[str, Any]:
        """The record that `metarl evaluate --json` writes; lists are over steps 0 ... K."""
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
            "intervals": self.intervals,
            "few_tasks": self.few_tasks,
            "deterministic": self.deterministic,
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
                    "standard_error": None
                    if self.standard_error is None
                    else self.standard_error[n].tolist(),
                    "env_steps": self.env_steps[n].tolist(),
                    "oracle": None if self.oracle is None else float(self.oracle[n]),
                    "success": None if self.success is None else self.success[n].tolist(),
                }
                for n, params in enumerate(self.params)
            ],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Evaluation:
        """The evaluation of a record: the inverse of `to_json`.

        Raises:
            KeyError: an older metarl wrote the record, which lacks a key.
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
            standard_error=column("standard_error"),
            few_tasks=record["few_tasks"],
            deterministic=record.get("deterministic", False),
        )

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each task and step: parameters, return, environment steps, success, oracle.

        Raises:
            UsageError: pandas isn't installed.
        """
        return data_frame(self.params, self.returns, self.env_steps, self.success, self.oracle)

    def until(self, steps: int) -> Evaluation:
        """The evaluation of the first `steps` steps, on the same episodes."""
        first = slice(steps + 1)
        return dataclasses.replace(
            self,
            returns=self.returns[:, first],
            env_steps=self.env_steps[:, first],
            success=None if self.success is None else self.success[:, first],
            standard_error=None if self.standard_error is None else self.standard_error[:, first],
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
    deterministic: bool = False,
) -> Evaluation:
    """Adapt to tasks of a split, with random streams that training never uses.

    The return after k steps is that of the episodes collected with the weights after k steps. The
    same episodes are the data of step k + 1.

    With `deterministic`, the agent adapts from the same sampled episodes, since exploration is
    what it learns from. The return after k steps is that of as many further episodes in which it
    takes the most likely action at each step; nothing is learned from them, so they don't count
    in `env_steps`.

    Args:
        chunk: number of tasks simulated at once, which bounds memory.
        watch: called with the adapted agent of each chunk.
        deterministic: report the returns of the most likely actions.
    Raises:
        RunError: the family or adaptation produced a NaN or infinity.
        UsageError: the family's spaces differ from the agent's.
    """
    check_spaces(agent, family)
    device = agent.device
    gen = stream(seed, f"evaluate {split} tasks", 0, device)
    task = sample_tasks(family, tasks, gen, split, device)
    # Tuning on validation tasks must not see the initial states and noise of the final test.
    kind = "validation " if split == "validation" else ""
    gens = [stream(seed, f"evaluate {kind}episodes", step, device) for step in range(steps + 1)]
    shown: list[torch.Generator | None] | None = None
    if deterministic:
        name = f"evaluate {kind}deterministic episodes"
        shown = [stream(seed, name, step, device) for step in range(steps + 1)]
    parts = [type(task)(*c) for c in zip(*(x.split(chunk) for x in task), strict=True)]
    adapted = [_adapt(agent, family, part, episodes, gens, shown, watch) for part in parts]
    returns, env_steps, success, error = zip(*adapted, strict=True)
    return Evaluation(
        family.name,
        split,
        seed,
        episodes,
        task_values(task),
        np.concatenate(returns),
        np.concatenate(env_steps),
        oracle_return(family, task, episodes, stream(seed, f"{kind}oracle", 0, device)),
        np.concatenate(success) if success[0] is not None else None,
        agent.step_name,
        np.concatenate(error) if episodes > 1 else None,
        few_tasks(family, split),
        deterministic,
    )


def few_tasks(family: Family, split: Split) -> bool:
    """Whether a split has so few tasks that an evaluation covers all of them repeatedly."""
    if hasattr(family, "members"):
        return len(family.members(split, "cpu")[0]) <= FEW_TASKS
    known = parameters(family).values()
    sets = [len(p.members(split)) for p in known if isinstance(p, Choice)]
    return len(sets) == len(known) and math.prod(sets) <= FEW_TASKS


def _adapt(
    agent: AnyAgent,
    family: Family,
    task: Any,
    episodes: int,
    gens: list[torch.Generator | None],
    shown: list[torch.Generator | None] | None,
    watch: Callable[[AnyAgent], None],
) -> tuple[Array, Array, Array | None, Array]:
    """Returns, environment steps, success rates if reported, and standard errors of the returns.

    Each (n, K + 1).

    Args:
        gens: streams of the sampled episodes of each step.
        shown: streams of the deterministic episodes that are reported instead, if any.
    """
    returns, success, error = [], [], []
    reported = gens if shown is None else shown
    env_steps = [torch.zeros(len(task[0]), device=agent.device)]
    for step, (gen, other) in enumerate(zip(gens, reported, strict=True)):
        data = _play(agent, family, task, episodes, other, step, shown is not None)
        each = data.episode_return()
        returns.append(each.mean(dim=1))
        error.append(each.std(dim=1, correction=min(1, episodes - 1)) / episodes**0.5)
        if "success" in data.notes:
            success.append(data.notes["success"].mean(dim=1))
        if step < len(gens) - 1:
            if shown is not None:
                data = _play(agent, family, task, episodes, gen, step, False)
            steps = data.mask.sum(dim=1)
            # A recurrent agent learns only from its own trial; a gradient step, from all episodes.
            used = steps.mean(dim=1) if isinstance(agent, MemoryAgent) else steps.sum(dim=1)
            env_steps.append(env_steps[-1] + used)
            agent = agent.learn(data)
    watch(agent)
    return _table(returns), _table(env_steps), _table(success) if success else None, _table(error)


def _play(
    agent: AnyAgent,
    family: Family,
    task: Any,
    episodes: int,
    gen: torch.Generator | None,
    step: int,
    deterministic: bool,
) -> Rollout:
    """Episodes after so many steps; RunError where a number in them is not finite."""
    how = {"deterministic": True} if deterministic else {}  # an agent of a user may not know it
    data = agent.play(family, task, episodes, gen, **how)
    check_finite(family, task, data)
    if not all(x.isfinite().all() for x in data.dist):
        raise RunError(
            f"the agent's weights are not finite after {step} inner steps: "
            "train again with a lower --inner-lr."
        )
    return data


def _table(columns: list[Tensor]) -> Array:
    """Stack columns (M,) into a table on the host."""
    table: Array = torch.stack(columns, dim=1).cpu().double().numpy()
    return table


def intervals(x: Array) -> Array:
    """95 % interval of the mean over rows, for each column, (columns, 2)."""
    return np.array([interval(column, (float(x.min()), float(x.max()))) for column in x.T])
