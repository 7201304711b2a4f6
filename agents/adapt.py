"""Adaptation: gradient steps on fast weights, of all tasks at once, for any differentiable loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from agents.policy import Params

Loss = Callable[[Params, Any], Tensor]  # fast weights (N, ...), data -> loss of each task (N,)


def per_task(params: Params, n: int) -> Params:
    """The same weights for each of n tasks, (n, ...): views, so nothing is copied."""
    return {k: p.expand(n, *p.shape) for k, p in params.items()}


def inner_update(
    loss: Loss, fast: Params, data: Any, inner_lr: Params, first_order: bool = False
) -> Params:
    """One gradient step on each task; returns new weights, touches nothing.

    Differentiable in `fast` and `inner_lr`; with `first_order` the step's gradient is a
    constant (d new / d fast = 1).

    Args:
        loss: may read of each task nothing but that task's row of the weights and the data.
        inner_lr: step size for each weight: () or the shape of the slow weight.
    Source: MAML, Finn et al. 2017 (arXiv:1703.03400), algorithm 3.
    """
    # A task's loss depends on its own row alone, so the gradient of the sum holds each task's own.
    step = torch.autograd.grad(
        loss(fast, data).sum(), list(fast.values()), create_graph=not first_order
    )
    return {k: p - inner_lr[k] * g for (k, p), g in zip(fast.items(), step, strict=True)}


def adapt(
    loss: Loss, params: Params, support: list[Any], inner_lr: Params, first_order: bool = False
) -> list[Params]:
    """Fast weights (N, ...) before the first and after each of len(support) steps."""
    path = [params]
    for data in support:
        path.append(inner_update(loss, path[-1], data, inner_lr, first_order))
    return path
