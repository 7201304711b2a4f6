"""Adaptation: gradient steps on the fast weights of all tasks, for any differentiable loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from metarl.agents.networks.policy import Params

Loss = Callable[[Params, Any], Tensor]  # weights, data -> loss of each task (N,)


def per_task(params: Params, n: int, names: Iterable[str] | None = None) -> Params:
    """Expand weights (...) to n tasks, (n, ...), as views.

    Args:
        names: weights that get the task axis; None for all.
    """
    fast = params.keys() if names is None else set(names)
    return {k: p.expand(n, *p.shape) if k in fast else p for k, p in params.items()}


def inner_update(
    loss: Loss,
    params: Params,
    data: Any,
    inner_lr: Params,
    first_order: bool = False,
    max_norm: float = 0.0,
    iterations: int = 1,
) -> Params:
    """Return new weights after one gradient step on each task.

    Differentiable in `params` and `inner_lr`; with `first_order` the gradient of the step is a
    constant (d new / d old = 1).

    Args:
        loss: the loss of a task may depend only on that task's row of the weights and the data.
        params: fast weights (N, ...), and slow weights (...), which are returned unchanged.
        inner_lr: step size of each fast weight, () or the shape of the slow weight.
        max_norm: bound of the L2 norm of a task's gradient over its fast weights; 0 for none.
        iterations: gradients per step. More than one approach the proximal point, which minimizes
            loss + |new - old|^2 / (2 inner_lr): see `towards_fixed_point`.

    Source: MAML, Finn et al. 2017 (arXiv:1703.03400), algorithm 3; the proximal point is iMAML's,
        Rajeswaran et al. 2019 (arXiv:1909.04630), equation 4.
    """

    def step(at: Params) -> Params:
        return step_from(loss, params, at, data, inner_lr, first_order, max_norm)

    return towards_fixed_point(step, params, list(inner_lr), iterations)


def towards_fixed_point(
    step: Callable[[Params], Params], start: Params, names: list[str], evaluations: int
) -> Params:
    """Approximate a fixed point of `step` in each task by damped iteration.

    Plain iteration diverges where the step is not a contraction, so each task moves only a share of
    the way to the result of the step. The share starts at 1. A move that increases the distance to
    the fixed point is undone and divides the share by 3; any other move multiplies it by 1.5, up to
    1. With one evaluation the result is the plain step.

    Args:
        names: names of the weights (N, ...) that the step changes.
        evaluations: number of evaluations of the step. Derivatives flow through the steps, not
            through the shares.
    """
    best, to = start, step(start)
    if evaluations == 1:
        return to
    least = distance(to, best, names)
    share = torch.ones_like(least)
    for _ in range(evaluations - 1):
        at = {**start, **{k: torch.lerp(best[k], to[k], rows(share, to[k])) for k in names}}
        there = step(at)
        far = distance(there, at, names)
        good = far < least
        best = {**start, **{k: torch.where(rows(good, at[k]), at[k], best[k]) for k in names}}
        to = {**start, **{k: torch.where(rows(good, at[k]), there[k], to[k]) for k in names}}
        least = torch.where(good, far, least)
        share = torch.where(good, (1.5 * share).clamp(max=1.0), share / 3)
    return {**start, **{k: torch.lerp(best[k], to[k], rows(share, to[k])) for k in names}}


def distance(a: Params, b: Params, names: list[str]) -> Tensor:
    """Squared L2 distance in each task over the named weights, (N,), detached."""
    return torch.stack([(a[k] - b[k]).detach().square().flatten(1).sum(1) for k in names]).sum(0)


def rows(x: Tensor, like: Tensor) -> Tensor:
    """x (N,) as (N, 1, ...), to broadcast with `like` (N, ...)."""
    return x.view(-1, *[1] * (like.dim() - 1))


def step_from(
    loss: Loss,
    params: Params,
    at: Params,
    data: Any,
    inner_lr: Params,
    first_order: bool = False,
    max_norm: float = 0.0,
) -> Params:
    """Gradient step from `params` with the gradient at `at`; see `inner_update` for the rest."""
    # A task's loss depends on its row alone, so the gradient of the sum has each task's in its row.
    fast = [at[k] for k in inner_lr]
    grads = torch.autograd.grad(loss(at, data).sum(), fast, create_graph=not first_order)
    step = dict(zip(inner_lr, grads, strict=True))
    if max_norm:
        step = clip_each_task(step, max_norm)
    return {k: p - inner_lr[k] * step[k] if k in step else p for k, p in params.items()}


def clip_each_task(grads: Params, max_norm: float) -> Params:
    """Scale gradients (N, ...) so that the L2 norm of each task's is at most `max_norm`."""
    square = torch.stack([g.square().flatten(1).sum(1) for g in grads.values()]).sum(0)
    # The norm has no second derivative at 0. There, and below the bound, the scale is constant 1.
    over = square > max_norm**2
    scale = torch.where(over, max_norm * torch.where(over, square, 1.0).rsqrt(), 1.0)
    return {k: g * rows(scale, g) for k, g in grads.items()}


def adapt(
    loss: Loss,
    params: Params,
    support: list[Any],
    inner_lr: Params | list[Params],
    second_order_steps: int = 1_000_000,
    max_norm: float = 0.0,
    iterations: int = 1,
) -> list[Params]:
    """Weights before the first and after each of K = len(support) inner steps.

    Args:
        support: data of each step.
        inner_lr: as in `inner_update`; one for all steps, or a list of K.
        second_order_steps: number of final steps that keep second derivatives.
        max_norm, iterations: as in `inner_update`.
    """
    path = [params]
    for k, data in enumerate(support):
        lr = inner_lr[k] if isinstance(inner_lr, list) else inner_lr
        first_order = k < len(support) - second_order_steps
        path.append(inner_update(loss, path[-1], data, lr, first_order, max_norm, iterations))
    return path
