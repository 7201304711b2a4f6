"""Evaluate adaptation: returns after 0, 1, ... K steps on tasks unseen in training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.agents.learners.base import check_spaces
from metarl.agents.learners.recurrent_agent import AnyAgent, MemoryAgent
from metarl.agents.rng import stream
from metarl.agents.rollouts.rollout import Rollout, check_finite
from metarl.envs import Choice, Family, RunError, Split, parameters, sample_tasks, task_values
from metarl.evaluation.result import FEW_TASKS, Evaluation
from metarl.evaluation.scripted_policies import oracle_return
from metarl.evaluation.statistics import Array


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
