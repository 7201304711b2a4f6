"""Linear systems of many tasks at once, known only through their products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]  # v (N, P) -> A v (N, P)
LITTLE = 0.9  # of a residual that is left: above it, a step has stagnated


def solve(product: Product, b: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """x (N, P) with A x close to b in each task, and |b - A x| / |b|, (N,).

    Each step adds one product to the directions and takes, of all combinations of them, the one
    with the smallest residual. So the residual never grows, whether or not A is symmetric or
    definite, and is 0 after P steps. Where A is symmetric and positive definite, conjugate gradient
    has the same directions and no smaller residual, in less memory; elsewhere it may diverge.

    Args:
        steps: products, of which two vectors (N, P) each are kept.
    Source: generalized conjugate residuals, Eisenstat, Elman and Schultz 1983, Variational
        iterative methods for nonsymmetric systems of linear equations, section 2; where a step
        stagnates the next direction is a product of the last, Jiranek and Rozloznik 2010, Adaptive
        version of simpler GMRES.
    """
    x, r, p = torch.zeros_like(b), b, b
    solved = (4 * torch.finfo(b.dtype).eps) ** 2 * dot(b, b)  # what is left is rounding
    directions: list[tuple[Tensor, Tensor]] = []  # p, and A p: orthonormal
    for _ in range(steps):
        q = product(p)
        for before, image in directions:
            along = dot(q, image)
            p, q = p - along * before, q - along * image
        size = dot(q, q).sqrt()
        unit = torch.where((size > 0) & (dot(r, r) > solved), 1 / size, 0)
        p, q = unit * p, unit * q
        directions.append((p, q))
        gain = dot(r, q)
        x, rest = x + gain * p, r - gain * q
        p = torch.where(dot(rest, rest) < LITTLE**2 * dot(r, r), rest, q)
        r = rest
    missed = b - product(x)  # what recursion says of the residual has rounding errors of its own
    norm = torch.linalg.vector_norm(b, dim=1)
    return x, torch.where(norm == 0, 0, torch.linalg.vector_norm(missed, dim=1) / norm)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Of each task, (N, 1)."""
    return (a * b).sum(1, keepdim=True)
