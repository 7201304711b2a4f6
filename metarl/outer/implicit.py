"""iMAML: the derivative of where adaptation ends, whatever way it went."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from agents.adapt import step_from
from agents.agent import Agent
from agents.policy import Params
from envs import Family
from metarl.adam import adam, clip
from metarl.experience import Experience, chunks, play_and_adapt, policy_change
from metarl.objective import loss_of
from metarl.outer.gradient import meta_lr, trained_weights
from metarl.ranks import named_over_ranks, over_ranks
from metarl.state import with_weights
from metarl.update import Mark, Update

if TYPE_CHECKING:
    from metarl.config import TrainConfig

Weights = dict[str, Tensor]


def improve(
    cfg: TrainConfig,
    agent: Agent,
    opt: dict[str, Tensor],
    family: Family,
    task: Any,
    gen: torch.Generator | None,
    mark: Mark,
) -> Update:
    """Play chunk by chunk of tasks, and move the weights once; no graph of the adaptation is kept.

    Source: Rajeswaran et al. 2019 (arXiv:1909.04630), algorithm 1.
    """
    first_order = dataclasses.replace(cfg, second_order_steps=0)
    weights = trained_weights(cfg, agent)
    total = torch.zeros((), device=agent.device)
    grads = {k: torch.zeros_like(w) for k, w in weights.items()}
    data = []
    for part in chunks(task, cfg.task_chunk):
        played = play_and_adapt(first_order, agent, family, part, gen, mark)
        share = len(part[0]) / cfg.tasks
        loss, each = implicit_gradient(cfg, agent, weights, played)
        grads = {k: g + share * each[k] for k, g in grads.items()}
        total = total + share * loss
        data.append(played._replace(path=[]))
        mark("outer")
    grads, norm = clip(named_over_ranks(grads), cfg.max_grad_norm)
    moved, opt = adam(weights, grads, opt, lambda k: meta_lr(cfg, k))
    moved = {k: w.detach() for k, w in moved.items()}
    (total,) = over_ranks(total)
    metrics = {"train/meta_loss": total, "train/grad_norm": norm}
    metrics |= policy_change(with_weights(agent, moved), data)
    return Update(moved, opt, [(d.task, d.rollouts) for d in data], metrics)


def implicit_gradient(
    cfg: TrainConfig, agent: Agent, weights: Weights, data: Experience
) -> tuple[Tensor, Weights]:
    """Loss after adaptation, and its gradient by the weights if every inner step was solved.

    A solved step ends in a fixed point, new = T(old, new, w), where T is one more iteration of it;
    what comes back through it is (1 - dT/dnew)^-T of what comes in. With one step size for all
    weights and none shared that is iMAML's (1 + H / lambda)^-1, lambda one over the step size.
    Source: Rajeswaran et al. 2019 (arXiv:1909.04630), lemma 1.
    """
    now, fast = with_weights(agent, weights), list(agent.inner_lr)
    path = [{**now.params, **{k: leaf(p[k]) for k in fast}} for p in data.path]
    loss = loss_of(cfg, now, data, path, first=True)
    by_step = [p[k] for p in path for k in fast]
    each = torch.autograd.grad(loss, [*by_step, *weights.values()], materialize_grads=True)
    pull = list(zip(*[iter(each[: len(by_step)])] * len(fast), strict=True))  # of each step
    grads = dict(zip(weights, each[len(by_step) :], strict=True))
    back = list(pull[-1])
    for k in reversed(range(len(data.support))):
        back, by_weight = through_step(cfg, now, weights, data, path, k, back)
        grads = {name: g + by_weight[name] for name, g in grads.items()}
        back = [b + p for b, p in zip(back, pull[k], strict=True)]
    for name, b in zip(fast, back, strict=True):
        if f"params/{name}" in grads:  # a context has no slow weight: it starts at 0
            grads[f"params/{name}"] = grads[f"params/{name}"] + b.sum(0)
    return loss.detach(), grads


def through_step(
    cfg: TrainConfig,
    agent: Agent,
    weights: Weights,
    data: Experience,
    path: list[Params],
    step: int,
    back: list[Tensor],
) -> tuple[list[Tensor], Weights]:
    """What comes back through an inner step: to the weights before it, and to all tasks' own.

    x = back + (dT/dnew)^T x is solved by repetition (Neumann series), which tends to it wherever
    the inner iterations tend to theirs, and asks for no symmetry: each weight may have a step size.
    """
    fast, lr = list(agent.inner_lr), agent.step_size(step)
    new = step_from(
        agent.inner_loss,
        path[step],
        path[step + 1],
        data.support[step],
        lr,
        max_norm=agent.rule.max_norm,
    )
    out, at = [new[k] for k in fast], [path[step + 1][k] for k in fast]
    x = back
    for _ in range(cfg.cg_steps):
        bent = torch.autograd.grad(out, at, x, retain_graph=True)
        x = [b + j for b, j in zip(back, bent, strict=True)]
    each = torch.autograd.grad(out, list(weights.values()), x, materialize_grads=True)
    return x, dict(zip(weights, each, strict=True))


def leaf(x: Tensor) -> Tensor:
    """The same numbers as the beginning of a new graph."""
    return x.detach().requires_grad_()
