"""How well an agent adapts: returns after 0, 1, ... K steps on tasks it never saw."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.agents.learners.base import check_spaces
from metarl.agents.learners.recurrent_agent import AnyAgent, MemoryAgent
from metarl.agents.rng import stream
from metarl.agents.rollouts.rollout import Rollout, check_finite
from metarl.envs import Choice, Family, RunError, Split, parameters, sample_tasks, task_values
from metarl.evaluation.scripted_policies import oracle_return
from metarl.evaluation.statistics import Array, Ends, difference_interval, half_width, interval, iqm

FEW_TASKS = 4  # up to which all tasks of a split are met, and an interval is over episodes


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
    standard_error: Array | None = None  # (M, K + 1) of each return, over its episodes
    few_tasks: bool = False  # the split has no others than these, at most `FEW_TASKS`
    deterministic: bool = False  # returns are of the most likely actions, not of sampled ones

    def __repr__(self) -> str:
        before, after = self.mean[0], self.mean[-1]
        how = ", most likely actions" if self.deterministic else ""
        return (
            f"Evaluation({self.family}: {len(self.params)} {self.split} tasks, mean return "
            f"{before:.2f} -> {after:.2f} after {self.steps} {self.step_name}{how})"
        )

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
    def task(self) -> Array | None:
        """(M,) which task each is, where there are few; None where they are a sample."""
        if not self.few_tasks:
            return None
        each = np.array([list(p.values()) for p in self.params])
        number: Array = np.unique(each, axis=0, return_inverse=True)[1].reshape(-1).astype(float)
        return number

    @property
    def intervals(self) -> str:
        """What the 95 % intervals are of."""
        if self.task is None:
            return "this run, over tasks"
        count = len(np.unique(self.task))
        return f"this run, over episodes of its {count} task{'s' if count > 1 else ''}"

    @property
    def bounds(self) -> Ends:
        """Lowest and highest return of any task at any step, the oracle's included."""
        every = self.returns if self.oracle is None else np.c_[self.returns, self.oracle]
        return float(every.min()), float(every.max())

    @property
    def ci95(self) -> Array:
        """95 % interval of the mean, (K + 1, 2)."""
        own = [self._over_episodes(k) for k in range(self.steps + 1)]
        columns = zip(self.returns.T, own, strict=True)
        return np.array([interval(x, self.bounds, self.task, half) for x, half in columns])

    @property
    def gain_ci95(self) -> Array:
        """Interval of what each step count gains over no adaptation, paired by task, (K + 1, 2)."""
        found = [(0.0, 0.0)]
        for k in range(1, self.steps + 1):
            own, start = self._over_episodes(k), self._over_episodes(0)
            half = None if own is None or start is None else np.hypot(own, start)
            x, before = self.returns[:, k], self.returns[:, 0]
            found.append(difference_interval(x, before, self.bounds, self.task, half))
        return np.array(found)

    def _over_episodes(self, step: int) -> Array | None:
        """Half of the interval of each task's return over its episodes, (M,)."""
        if self.standard_error is None:
            return None
        half: Array = half_width(self.standard_error[:, step], self.episodes)
        return half

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
            standard_error=column("standard_error"),
            few_tasks=record["few_tasks"],
            deterministic=record.get("deterministic", False),
        )

    def until(self, steps: int) -> Evaluation:
        """The evaluation of fewer steps, on the same episodes."""
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
    """Adapt to tasks of a split, from streams that training never uses.

    The return after k steps is that of the episodes played with the weights after k steps;
    these same episodes feed step k + 1.

    With `deterministic`, the agent adapts from the same sampled episodes, since exploration is
    what it learns from. The return after k steps is that of as many further episodes in which it
    takes the most likely action at each step; nothing is learned from them, so they don't count
    in `env_steps`.

    Args:
        chunk: tasks in one tensor program, which bounds memory.
        watch: called with the agent that has adapted to each chunk.
        deterministic: report the returns of the most likely actions.
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
    shown: list[torch.Generator | None] | None = None
    if deterministic:
        name = f"evaluate {kind}deterministic episodes"
        shown = [stream(seed, name, step, device) for step in range(steps + 1)]
    parts = [type(task)(*c) for c in zip(*(x.split(chunk) for x in task), strict=True)]
    adapted = [_adapt(agent, family, part, episodes, gens, shown, watch) for part in parts]
    returns, spent, success, error = zip(*adapted, strict=True)
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
        np.concatenate(error) if episodes > 1 else None,
        few_tasks(family, split),
        deterministic,
    )


def few_tasks(family: Family, split: Split) -> bool:
    """Whether a split has so few tasks that an evaluation meets them all, time and again."""
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
    """Return, steps spent, share of successes where simulators tell, and the return's standard
    error, (n, K + 1) each.

    Args:
        gens: streams of the sampled episodes of each step.
        shown: streams of the deterministic episodes that are reported instead, if any.
    """
    returns, success, error = [], [], []
    reported = gens if shown is None else shown
    spent = [torch.zeros(len(task[0]), device=agent.device)]
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
            played = data.mask.sum(dim=1)
            # Each trial of a memory learns from itself alone; a gradient, from all episodes.
            alone = isinstance(agent, MemoryAgent)
            spent.append(spent[-1] + (played.mean(dim=1) if alone else played.sum(dim=1)))
            agent = agent.learn(data)
    watch(agent)
    return _table(returns), _table(spent), _table(success) if success else None, _table(error)


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
    """Columns (M,) side by side, on the host."""
    table: Array = torch.stack(columns, dim=1).cpu().double().numpy()
    return table


def intervals(x: Array) -> Array:
    """95 % interval of the mean over rows, for each column, (columns, 2)."""
    return np.array([interval(column, (float(x.min()), float(x.max()))) for column in x.T])
