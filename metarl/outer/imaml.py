"""iMAML: the derivative of where adaptation ends, whatever way it went."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from metarl.agents.inner.inner_update import distance, step_from
from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.networks.policy import Params
from metarl.distributed.collectives import all_reduce, all_reduce_mean, all_reduce_named
from metarl.envs import Family
from metarl.outer.conjugate_gradient import solve
from metarl.outer.functional_adam import adam, clip
from metarl.outer.inner_loop import Experience, chunks, collect_and_adapt, policy_change
from metarl.outer.maml import meta_lr, trained_weights
from metarl.outer.meta_objective import loss_of
from metarl.outer.train_state import with_weights
from metarl.outer.update import PhaseCallback, Update

if TYPE_CHECKING:
    from metarl.config.settings import TrainConfig

Weights = dict[str, Tensor]
TOLERANCE = 0.1  # |b - A x| / |b|, above which a gradient is not used


class Residuals(NamedTuple):
    """How far what the implicit gradient takes as solved is from it, in each task."""

    system: Tensor  # (N,) largest |b - A x| / |b| of the steps' linear systems
    point: Tensor  # (N,) largest |T(new) - new| / |T(new) - old| of the steps' proximal points


def improve(
    cfg: TrainConfig,
    agent: Agent,
    opt: dict[str, Tensor],
    family: Family,
    task: Any,
    gen: torch.Generator | None,
    on_phase_end: PhaseCallback,
) -> Update:
    """Play chunk by chunk of tasks, and move the weights once; no graph of the adaptation is kept.

    Where the linear system of a task isn't solved to `TOLERANCE`, the gradient is NaN: the update
    is skipped.

    Source: Rajeswaran et al. 2019 (arXiv:1909.04630), algorithm 1.
    """
    first_order = dataclasses.replace(cfg, second_order_steps=0)
    weights = trained_weights(cfg, agent)
    total = torch.zeros((), device=agent.device)
    grads = {k: torch.zeros_like(w) for k, w in weights.items()}
    data, residuals = [], []
    for part in chunks(task, cfg.task_chunk):
        collected = collect_and_adapt(first_order, agent, family, part, gen, on_phase_end)
        share = len(part[0]) / cfg.tasks
        loss, each, far = implicit_gradient(cfg, agent, weights, collected)
        residuals.append(far)
        grads = {k: g + share * each[k] for k, g in grads.items()}
        total = total + share * loss
        data.append(collected._replace(path=[]))
        on_phase_end("outer")
    system, point = (torch.cat(x) for x in zip(*residuals, strict=True))
    (unsolved,) = all_reduce((~(system <= TOLERANCE)).to(system.dtype).sum())
    grads = {k: torch.where(unsolved > 0, torch.nan, g) for k, g in grads.items()}
    grads, norm = clip(all_reduce_named(grads), cfg.max_grad_norm)
    moved, opt = adam(weights, grads, opt, lambda k: meta_lr(cfg, k))
    moved = {k: w.detach() for k, w in moved.items()}
    (total,) = all_reduce(total)
    metrics = {
        "train/meta_loss": total,
        "train/grad_norm": norm,
        "train/unsolved_tasks": unsolved,
        "train/system_residual": all_reduce_mean(system),
        "train/proximal_residual": all_reduce_mean(point),
    }
    metrics |= policy_change(with_weights(agent, moved), data)
    return Update(moved, opt, [(d.task, d.rollouts) for d in data], metrics)


def implicit_gradient(
    cfg: TrainConfig, agent: Agent, weights: Weights, data: Experience
) -> tuple[Tensor, Weights, Residuals]:
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
    nothing = torch.zeros(len(data.query.obs), device=loss.device, dtype=loss.dtype)
    residuals = [Residuals(nothing, nothing)]
    for k in reversed(range(len(data.support))):
        back, by_weight, far = through_step(cfg, now, weights, data, path, k, back)
        grads = {name: g + by_weight[name] for name, g in grads.items()}
        residuals.append(far)
        back = [b + p for b, p in zip(back, pull[k], strict=True)]
    for name, b in zip(fast, back, strict=True):
        if f"params/{name}" in grads:  # a context has no slow weight: it starts at 0
            grads[f"params/{name}"] = grads[f"params/{name}"] + b.sum(0)
    worst = Residuals(*(torch.stack(x).amax(0) for x in zip(*residuals, strict=True)))
    return loss.detach(), grads, worst


def through_step(
    cfg: TrainConfig,
    agent: Agent,
    weights: Weights,
    data: Experience,
    path: list[Params],
    step: int,
    back: list[Tensor],
) -> tuple[list[Tensor], Weights, Residuals]:
    """What comes back through an inner step: to the weights before it, and to all tasks' own.

    x = back + (dT/dnew)^T x is 1 + (step size x Hessian), transposed. The paper's conjugate
    gradient needs it symmetric and positive definite. Here it is neither where step sizes differ
    or gradients are clipped, and where the loss is not convex: a policy gradient's hardly is.
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

    def product(x: Tensor) -> Tensor:
        hvp = torch.autograd.grad(out, at, split(x, back), retain_graph=True)
        return x - joined(hvp)

    x, missed = solve(product, joined(back), cfg.cg_steps)
    gap, way = distance(new, path[step + 1], fast), distance(new, path[step], fast)
    point = torch.where(gap > 0, (gap / way).sqrt(), 0)
    parts = split(x, back)
    each = torch.autograd.grad(out, list(weights.values()), parts, materialize_grads=True)
    return parts, dict(zip(weights, each, strict=True)), Residuals(missed, point)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """All numbers of each task in one vector, (N, P)."""
    return torch.cat([x.flatten(1) for x in parts], dim=1)


def split(x: Tensor, parts: list[Tensor]) -> list[Tensor]:
    """(N, P) in the shapes of others."""
    pieces = x.split([p[0].numel() for p in parts], dim=1)
    return [piece.view_as(p) for piece, p in zip(pieces, parts, strict=True)]


def leaf(x: Tensor) -> Tensor:
    """The same numbers as the beginning of a new graph."""
    return x.detach().requires_grad_()
