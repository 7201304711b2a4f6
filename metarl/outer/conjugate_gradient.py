"""Matrix-free linear solver, batched over tasks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]  # v (N, P) -> A v (N, P)
LITTLE = 0.9  # a step has stagnated if more than this share of the residual is left


def solve(product: Product, b: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return x (N, P) with A x close to b in each task, and |b - A x| / |b|, (N,).

    Each step adds one direction and minimizes the residual over the span of all directions. The
    residual therefore never grows, whether or not A is symmetric or definite, and reaches 0 after P
    steps. For a symmetric positive definite A, conjugate gradient searches the same space in less
    memory, with a residual that is no smaller; for other matrices it may diverge.

    Args:
        steps: number of products; each keeps two (N, P) vectors.
    Source: generalized conjugate residuals, Eisenstat, Elman and Schultz 1983, Variational
        iterative methods for nonsymmetric systems of linear equations, section 2. When a step
        stagnates, the next direction is a product of the last, Jiranek and Rozloznik 2010, Adaptive
        version of simpler GMRES.
    """
    x, r, p = torch.zeros_like(b), b, b
    solved = (4 * torch.finfo(b.dtype).eps) ** 2 * dot(b, b)  # below this, rounding error
    directions: list[tuple[Tensor, Tensor]] = []  # p, and A p: orthonormal
    for _ in range(steps):
        q = product(p)
        for p_prev, q_prev in directions:
            coef = dot(q, q_prev)
            p, q = p - coef * p_prev, q - coef * q_prev
        norm = dot(q, q).sqrt()
        scale = torch.where((norm > 0) & (dot(r, r) > solved), 1 / norm, 0)
        p, q = scale * p, scale * q
        directions.append((p, q))
        alpha = dot(r, q)
        x, r_new = x + alpha * p, r - alpha * q
        p = torch.where(dot(r_new, r_new) < LITTLE**2 * dot(r, r), r_new, q)
        r = r_new
    residual = b - product(x)  # r accumulates rounding error, so recompute
    norm = torch.linalg.vector_norm(b, dim=1)
    return x, torch.where(norm == 0, 0, torch.linalg.vector_norm(residual, dim=1) / norm)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Dot product of each task, (N, 1)."""
    return (a * b).sum(1, keepdim=True)
