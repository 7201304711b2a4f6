"""iMAML: the meta-gradient by implicit differentiation, independent of the adaptation path."""

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
from metarl.outer.inner_loop import Experience, chunks, collect_and_adapt, policy_change
from metarl.outer.meta_objective import loss_of
from metarl.outer.train_state import with_weights
from metarl.outer.update import PhaseCallback, Update, clipped_adam, trained_weights

if TYPE_CHECKING:
    from metarl.config.settings import TrainConfig

Weights = dict[str, Tensor]
TOLERANCE = 0.1  # |b - A x| / |b|, above which a gradient is not used


class Residuals(NamedTuple):
    """Largest residual over inner steps of the equations that the implicit gradient assumes."""

    system: Tensor  # (N,) |b - A x| / |b| of the linear systems
    point: Tensor  # (N,) |T(new) - new| / |T(new) - old| of the proximal points


def improve(
    cfg: TrainConfig,
    agent: Agent,
    opt: dict[str, Tensor],
    family: Family,
    task: Any,
    gen: torch.Generator | None,
    on_phase_end: PhaseCallback,
) -> Update:
    """Collect all chunks of tasks, then take one Adam step; no adaptation graph is kept.

    If the linear system of any task isn't solved to `TOLERANCE`, the gradient is NaN and the update
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
        loss, each, residual = implicit_gradient(cfg, agent, weights, collected)
        residuals.append(residual)
        grads = {k: g + share * each[k] for k, g in grads.items()}
        total = total + share * loss
        data.append(collected._replace(path=[]))
        on_phase_end("outer")
    system, point = (torch.cat(x) for x in zip(*residuals, strict=True))
    (unsolved,) = all_reduce((~(system <= TOLERANCE)).to(system.dtype).sum())
    grads = {k: torch.where(unsolved > 0, torch.nan, g) for k, g in grads.items()}
    moved, opt, norm = clipped_adam(cfg, weights, all_reduce_named(grads), opt)
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
    """Loss after adaptation, and its gradient, assuming that every inner step has converged.

    A converged step ends in a fixed point, new = T(old, new, w), where T is one inner iteration.
    Its vector-Jacobian product multiplies by (1 - dT/dnew)^-T. With a single step size for all
    weights, this is iMAML's (1 + H / lambda)^-1, where lambda is the inverse of the step size.

    Source: Rajeswaran et al. 2019 (arXiv:1909.04630), lemma 1.
    """
    now, fast = with_weights(agent, weights), list(agent.inner_lr)
    path = [{**now.params, **{k: leaf(p[k]) for k in fast}} for p in data.path]
    loss = loss_of(cfg, now, data, path, first=True)
    by_step = [p[k] for p in path for k in fast]
    each = torch.autograd.grad(loss, [*by_step, *weights.values()], materialize_grads=True)
    direct = list(zip(*[iter(each[: len(by_step)])] * len(fast), strict=True))  # for each step
    grads = dict(zip(weights, each[len(by_step) :], strict=True))
    cotangent = list(direct[-1])
    zeros = torch.zeros(len(data.query.obs), device=loss.device, dtype=loss.dtype)
    residuals = [Residuals(zeros, zeros)]
    for k in reversed(range(len(data.support))):
        cotangent, by_weight, residual = through_step(cfg, now, weights, data, path, k, cotangent)
        grads = {name: g + by_weight[name] for name, g in grads.items()}
        residuals.append(residual)
        cotangent = [c + d for c, d in zip(cotangent, direct[k], strict=True)]
    for name, c in zip(fast, cotangent, strict=True):
        if f"params/{name}" in grads:  # a context has no slow weight: it starts at 0
            grads[f"params/{name}"] = grads[f"params/{name}"] + c.sum(0)
    worst = Residuals(*(torch.stack(x).amax(0) for x in zip(*residuals, strict=True)))
    return loss.detach(), grads, worst


def through_step(
    cfg: TrainConfig,
    agent: Agent,
    weights: Weights,
    data: Experience,
    path: list[Params],
    step: int,
    cotangent: list[Tensor],
) -> tuple[list[Tensor], Weights, Residuals]:
    """Vector-Jacobian product of an inner step: for the weights before it, and for shared weights.

    Solves x = cotangent + (dT/dnew)^T x, whose matrix is 1 + (step size x Hessian), transposed. The
    paper's conjugate gradient requires a symmetric positive definite matrix. This one is not
    symmetric if step sizes differ or gradients are clipped, and not positive definite if the loss
    is not convex, which is usual for a policy gradient.
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
        vjp = torch.autograd.grad(out, at, split(x, cotangent), retain_graph=True)
        return x - joined(vjp)

    x, system = solve(product, joined(cotangent), cfg.cg_steps)
    last_move, total_move = distance(new, path[step + 1], fast), distance(new, path[step], fast)
    point = torch.where(last_move > 0, (last_move / total_move).sqrt(), 0)
    parts = split(x, cotangent)
    each = torch.autograd.grad(out, list(weights.values()), parts, materialize_grads=True)
    return parts, dict(zip(weights, each, strict=True)), Residuals(system, point)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Flatten and concatenate per task, (N, P)."""
    return torch.cat([x.flatten(1) for x in parts], dim=1)


def split(x: Tensor, parts: list[Tensor]) -> list[Tensor]:
    """Split (N, P) into tensors with the shapes of `parts`: the inverse of `joined`."""
    pieces = x.split([p[0].numel() for p in parts], dim=1)
    return [piece.view_as(p) for piece, p in zip(pieces, parts, strict=True)]


def leaf(x: Tensor) -> Tensor:
    """A detached copy that requires grad."""
    return x.detach().requires_grad_()
