"""Linear systems by their products against dense solves."""

import pytest
import torch
from torch.testing import assert_close

from metarl.outer.conjugate_gradient import solve
from metarl.outer.trpo import conjugate_gradient

N, P = 4, 12


def system(kind, dtype=torch.float64):
    """Matrices (N, P, P) and right-hand sides (N, P); |eigenvalues| of A - 1 are mostly above 1."""
    gen = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(N, P, P, generator=gen, dtype=torch.float64))
    e = 5 * torch.randn(N, P, generator=gen, dtype=torch.float64)
    e = e.abs() if kind == "definite" else e
    h = q @ torch.diag_embed(e) @ q.mT
    sizes = torch.rand(N, P, generator=gen, dtype=torch.float64)
    h = h * sizes.unsqueeze(1) if kind == "unsymmetric" else h
    a = h - h.mT + torch.triu(h) - torch.triu(h).mT if kind == "skew" else torch.eye(P) + h
    return a.to(dtype), torch.randn(N, P, generator=gen, dtype=torch.float64).to(dtype)


def times(a):
    return lambda v: (a @ v.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("kind", ["definite", "indefinite", "unsymmetric"])
@pytest.mark.parametrize("steps", [P, 5 * P])
def test_as_many_steps_as_unknowns_solve_any_system_and_further_ones_do_no_harm(kind, steps):
    a, b = system(kind)
    x, residual = solve(times(a), b, steps)
    assert_close(x, torch.linalg.solve(a, b), rtol=1e-8, atol=1e-8)
    assert residual.max() < 1e-10


def test_a_step_along_which_nothing_is_gained_is_not_the_end():
    """Of a skew-symmetric matrix every product is at right angles to what was multiplied."""
    a = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]]).double()
    b = torch.tensor([[1.0, 2.0]]).double()
    assert solve(times(a), b, 1)[1] == 1
    x, residual = solve(times(a), b, 2)
    assert_close(x, torch.linalg.solve(a, b))
    assert residual < 1e-12


@pytest.mark.parametrize("kind", ["definite", "indefinite", "unsymmetric"])
def test_the_residual_is_that_of_x_and_never_grows(kind):
    a, b = system(kind)
    last = torch.ones(N)
    for steps in range(1, P):
        x, residual = solve(times(a), b, steps)
        assert_close(residual, (b - times(a)(x)).norm(dim=1) / b.norm(dim=1))
        assert (residual <= last + 1e-12).all()
        last = residual


def test_of_a_definite_system_it_leaves_no_more_than_conjugate_gradient():
    a, b = system("definite")
    for steps in (2, 5, 8):
        _, residual = solve(times(a), b, steps)
        for n in range(N):
            x = conjugate_gradient(lambda v, n=n: a[n] @ v, b[n], steps)
            assert residual[n] <= (b[n] - a[n] @ x).norm() / b[n].norm() + 1e-12


def test_float32_is_solved_to_its_own_precision():
    a, b = system("definite", torch.float32)
    x, residual = solve(times(a), b, 3 * P)
    assert residual.max() < 1e-5
    assert_close(x, torch.linalg.solve(a, b), rtol=1e-4, atol=1e-5)


def test_nothing_on_the_right_is_solved_by_nothing_and_a_nan_is_no_solution():
    a, _ = system("definite")
    x, residual = solve(times(a), torch.zeros(N, P).double(), 3)
    assert (x == 0).all()
    assert (residual == 0).all()
    _, residual = solve(times(a), torch.full((N, P), float("nan")).double(), 3)
    assert not (residual <= 1).any()
