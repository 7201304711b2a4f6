"""Data that agents of any inner rule adapt by; and their adaptation as a loop over tasks."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from agents_reference import POISON, Walk, random_params, task_row
from inner_reference import inner_gradient
from planes import Lamp
from torch import nn

from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.networks.choose import make_policy
from metarl.agents.networks.policy import Params
from metarl.agents.rollouts.batch import Batch
from metarl.config.settings import TrainConfig
from metarl.outer.inner_loop import Experience, collect_and_adapt
from metarl.outer.train_state import named_weights, with_weights
from metarl.training.meta_train import new_agent

N = 3
WORLDS: dict[str, Any] = {
    "gaussian": Walk(horizon=5),
    "categorical": Walk(discrete=True, horizon=5),
    "cnn": Lamp(horizon=3),
}


class Problem(NamedTuple):
    """An agent, and data of all inner steps with poisoned padding."""

    cfg: TrainConfig
    agent: Agent
    data: Experience
    plain: nn.Module  # the agent's policy without context and adapters


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_problem(case: dict[str, Any], away: float = 0.1) -> Problem:
    """Settings of a case: some of `TrainConfig`, `estimator` with its lambda, and `world`.

    Args:
        away: how far the agent has moved on since it played.
    """
    case = dict(case)
    world = WORLDS[case.pop("world")]
    estimator, lam = case.pop("estimator", ("lvc", 1.0))
    size = {"tasks": N, "episodes": 2, "hidden": (3,), "context": 2, "rank": 2, "inner_kl": 0.5}
    cfg = TrainConfig(estimator=estimator, dice_lambda=lam, **{**size, **case})
    agent = new_agent(cfg, world)
    agent.policy.double()
    params = random_params(agent.policy, gen())
    if "context" in params:
        params["context"].zero_()
    lr = {
        k: 0.2 + 0.3 * torch.rand(x.shape, generator=gen(1)).double()
        for k, x in agent.inner_lr.items()
    }
    agent = live(dataclasses.replace(agent, params=params, inner_lr=lr))
    # A walk's length, of which episode b lasts b steps more; or the wiring of a lamp.
    task = world.task_type(torch.arange(1.0, N + 1).double().unsqueeze(-1))
    data = collect_and_adapt(cfg, agent, world, task, gen(3))
    data = data._replace(support=[poisoned(b) for b in data.support], query=poisoned(data.query))
    if away:
        moved = {
            k: w + away * torch.randn(w.shape, generator=gen(4)).double()
            for k, w in named_weights(agent).items()
            if k != "params/context"
        }
        agent = live(with_weights(agent, moved))
    return Problem(cfg, agent, data, make_policy(world, "auto", cfg.hidden, 0.0).double())


def poisoned(batch: Batch) -> Batch:
    """With padding far from 0 and, as a ratio, past what an exponential can hold."""
    dead = batch.weight == 0
    obs = batch.obs.masked_fill(dead.view(*dead.shape, *[1] * (batch.obs.dim() - 2)), POISON)
    return batch._replace(
        obs=obs, adv=batch.adv.masked_fill(dead, POISON), logp=batch.logp.masked_fill(dead, -1e3)
    )


def live(agent: Agent) -> Agent:
    """With leaves for weights and step sizes."""
    weights = named_weights(agent)
    return with_weights(agent, {k: w.detach().requires_grad_() for k, w in weights.items()})


def of_task(fast: Params, agent: Agent, n: int) -> Params:
    """The weights that task n acts with, without a task axis."""
    return {k: p[n] if k in agent.inner_lr else p for k, p in fast.items()}


def loop_over_tasks(problem: Problem) -> tuple[list[list[Params]], list[list[Params]]]:
    """Weights before and after each step, and the gradient of each step; for each task a list."""
    cfg, agent, data, plain = problem
    paths, steps = [], []
    for n in range(N):
        path = [{k: p.detach() for k, p in agent.params.items()}]
        grads: list[Params] = []
        for k, batch in enumerate(data.support):
            row = task_row(batch, n)
            grads.append(inner_gradient(plain, agent.rule, path[-1], list(agent.inner_lr), row))
            after = dict(path[-1])
            for name, lr in agent.inner_lr.items():
                size = lr[k] if cfg.step_size == "per-step" else lr
                after[name] = path[-1][name] - size.detach() * grads[-1][name]
            path.append(after)
        paths.append(path)
        steps.append(grads)
    return paths, steps
