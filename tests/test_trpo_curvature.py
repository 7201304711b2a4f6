"""The trust region's curvature against finite differences, and the step that is made of it."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close
from trpo_problem import kl_after_adaptation, problem, small

from metarl.agents.networks.policy import act_dist
from metarl.agents.rollouts.batch import Batch, mean_kl
from metarl.bench.workloads import settings
from metarl.outer import trpo
from metarl.outer.inner_loop import adapt_again
from metarl.outer.train_state import with_weights


def difference_of_gradients(f, weights, v, eps=1e-5):
    """H v by central differences of the gradient of f."""

    def slope(sign):
        at = trpo.like(trpo.flat(weights) + sign * eps * v, weights)
        at = {k: x.detach().requires_grad_() for k, x in at.items()}
        grads = torch.autograd.grad(f(at), list(at.values()), materialize_grads=True)
        return torch.cat([g.flatten() for g in grads])

    return (slope(1) - slope(-1)) / (2 * eps)


RULES = [
    {"inner_steps": 0},
    {"inner_steps": 1},
    {"inner_steps": 2},
    {"inner_steps": 2, "multi_step": True},
    {"inner_steps": 2, "step_size": "per-step"},
    {"step_size": "per-weight"},
    {"fast": "head"},
    {"fast": "body"},
    {"fast": "context", "context": 2},
    {"fast": "lora", "rank": 2},
    {"estimator": "dice"},
    {"estimator": "log-likelihood"},
    {"inner_entropy": 0.1},
    {"inner_max_norm": 0.1},
]


@pytest.mark.parametrize("family", ["walk", "keys", "cartpole"])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_products_are_those_of_the_hessian_of_the_kl_after_adaptation(family, rule):
    cfg = small(**rule)
    agent, weights, (data,) = problem(cfg, family)
    v = torch.randn(trpo.flat(weights).shape, generator=torch.Generator().manual_seed(2)).double()

    def f(at):
        return kl_after_adaptation(cfg, with_weights(agent, at), data)

    got = trpo.curvature(cfg, agent, weights, [data])(v)
    want = difference_of_gradients(f, weights, v)
    assert_close(got, want, rtol=1e-4, atol=1e-6 * want.abs().max().item())
    damped = trpo.curvature(dataclasses.replace(cfg, damping=0.5), agent, weights, [data])(v)
    assert_close(damped, got + 0.5 * v)


def test_products_go_through_convolutions():
    cfg = small(hidden=(4,), tasks=2, episodes=2, network="cnn")
    agent, weights, (data,) = problem(cfg, "snake")
    assert any(k.startswith("params/filters") for k in weights)
    v = torch.randn(trpo.flat(weights).shape, generator=torch.Generator().manual_seed(2)).double()

    def f(at):
        return kl_after_adaptation(cfg, with_weights(agent, at), data)

    want = difference_of_gradients(f, weights, v)
    got = trpo.curvature(cfg, agent, weights, [data])(v)
    assert_close(got, want, rtol=1e-4, atol=1e-6 * want.abs().max().item())


def test_first_order_curvature_is_that_at_the_adapted_weights():
    cfg = small(curvature="first-order", inner_steps=2)
    agent, weights, (data,) = problem(cfg)
    v = torch.randn(trpo.flat(weights).shape, generator=torch.Generator().manual_seed(2)).double()
    fast = {k: p.detach() for k, p in adapt_again(cfg, agent, data)[-1].items()}

    def f(at):  # the weights' move carried over to the adapted ones, as if adaptation added nothing
        moved = {
            k: p + at[f"params/{k}"] - weights[f"params/{k}"].detach() for k, p in fast.items()
        }
        return mean_kl(act_dist(agent.policy, moved, data.query.obs), data.query).mean()

    got = trpo.curvature(cfg, agent, weights, [data])(v)
    assert_close(got, difference_of_gradients(f, weights, v), rtol=1e-4, atol=1e-6)
    exact = trpo.curvature(dataclasses.replace(cfg, curvature="exact"), agent, weights, [data])(v)
    assert (got - exact).abs().max() > 1e-2 * exact.abs().max()


def some_episodes(batch, episodes):
    """The first episodes of a batch, picked step by step."""
    keep = [m for m in range(batch.obs.shape[1]) if m % batch.episodes < episodes]
    dist = type(batch.dist)(
        *(x[:, keep] if x.dim() > 2 and x.shape[1] > 1 else x for x in batch.dist)
    )
    weight = batch.weight[:, keep] / batch.weight[:, keep].sum(1, keepdim=True)
    columns = (x[:, keep] for x in batch[:4])
    return Batch(*columns, weight, dist, episodes)


@pytest.mark.parametrize("family", ["walk", "keys"])
@pytest.mark.parametrize(("share", "episodes"), [(0.5, 2), (0.01, 1)])
def test_a_share_of_the_curvature_is_that_of_the_first_episodes(family, share, episodes):
    cfg = small(episodes=4, estimator="dice")
    agent, weights, (data,) = problem(cfg, family)
    v = torch.randn(trpo.flat(weights).shape, generator=torch.Generator().manual_seed(2)).double()
    fewer = data._replace(
        support=[some_episodes(b, episodes) for b in data.support],
        query=some_episodes(data.query, episodes),
    )
    want = trpo.curvature(cfg, agent, weights, [fewer])(v)
    part = dataclasses.replace(cfg, curvature_share=share)
    assert_close(trpo.curvature(part, agent, weights, [data])(v), want)
    dist = act_dist(agent.policy, adapt_again(cfg, agent, fewer)[-1], fewer.query.obs)
    alone = fewer._replace(query=fewer.query._replace(dist=trpo.detached(dist)))

    def f(at):
        return kl_after_adaptation(cfg, with_weights(agent, at), alone)

    assert_close(want, difference_of_gradients(f, weights, v), rtol=1e-4, atol=1e-6)


def quadratic(size=6):
    """A positive definite matrix and a vector."""
    gen = torch.Generator().manual_seed(0)
    root = torch.randn(size, size, generator=gen).double()
    return root @ root.T + 0.1 * torch.eye(size).double(), torch.randn(size, generator=gen).double()


@pytest.mark.parametrize("steps", [6, 40])
def test_conjugate_gradient_solves_what_a_dense_solver_solves(steps):
    h, b = quadratic()
    x = trpo.conjugate_gradient(lambda v: h @ v, b, steps)
    assert_close(x, torch.linalg.solve(h, b), rtol=1e-4, atol=1e-4)


def test_each_step_of_conjugate_gradient_is_the_best_in_its_krylov_space():
    h, b = quadratic()
    for steps in (1, 2, 3):
        x = trpo.conjugate_gradient(lambda v: h @ v, b, steps)
        basis = torch.stack([torch.linalg.matrix_power(h, i) @ b for i in range(steps)], dim=1)
        y = torch.linalg.solve(basis.T @ h @ basis, basis.T @ b)
        assert_close(x, basis @ y)


@pytest.mark.parametrize("cg_steps", [2, 6])
def test_the_step_goes_down_to_where_the_quadratic_kl_is_the_bound(cg_steps):
    h, g = quadratic()
    step = trpo.trust_region_step(lambda v: h @ v, g, cg_steps, 0.01)
    assert_close((0.5 * step @ h @ step).item(), 0.01)
    assert step @ g < 0
    if cg_steps == len(g):
        best = torch.linalg.solve(h, g)
        assert_close(step / step.norm(), -best / best.norm())


@pytest.mark.parametrize(("workload", "share"), [("nav-20-trpo", 1), ("nav-20-trpo-quarter", 0.25)])
def test_a_benchmark_takes_the_curvature_that_its_name_says(workload, share):
    assert settings(workload, repeats=1).curvature_share == share
