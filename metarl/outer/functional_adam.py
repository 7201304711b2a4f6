"""Adam as a pure function, so that outer rules carry only tensors as state."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def adam(
    weights: dict[str, Tensor],
    grads: dict[str, Tensor],
    opt: dict[str, Tensor],
    lr: Callable[[str], float],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the weights and the optimizer state after one step; the inputs are not modified.

    Args:
        opt: moments by `weight/moment`; a weight without any starts afresh. Other entries are kept.
        lr: learning rate for a weight's name.
    Source: Kingma and Ba 2015 (arXiv:1412.6980), algorithm 1.
    """
    new = {k: w.detach().clone() for k, w in weights.items()}
    groups = [{"params": [w], "lr": lr(k)} for k, w in new.items()]
    # The fused version never reads its step counters on the host; the default one does, per weight.
    optimizer = torch.optim.Adam(groups, fused=True)
    for k, w in new.items():
        w.grad = grads[k]
        if f"{k}/step" in opt:
            optimizer.state[w] = {q: opt[f"{k}/{q}"].clone() for q in MOMENTS}
    optimizer.step()
    moments = {f"{k}/{q}": optimizer.state[w][q] for k, w in new.items() for q in MOMENTS}
    for w in new.values():
        w.grad = None
    return new, {**opt, **moments}


def clip(grads: dict[str, Tensor], max_norm: float) -> tuple[dict[str, Tensor], Tensor]:
    """Gradients scaled to a global L2 norm of at most `max_norm`, and the norm before scaling."""
    norm = torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(g) for g in grads.values()])
    )
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return {k: g * scale for k, g in grads.items()}, norm
