"""Adaptation and its derivatives, with the loss that agents really adapt by."""

from typing import NamedTuple

import pytest
import torch
from agents_reference import (
    finite_difference,
    gradient,
    random_batch,
    random_params,
    surrogate,
    task_row,
)
from gymnasium.spaces import Box, Discrete
from torch import nn
from torch.testing import assert_close

from metarl.agents.inner.inner_update import Loss, adapt, inner_update, per_task
from metarl.agents.networks.policy import MLP, Params
from metarl.agents.rollouts.batch import Batch

N = 3
pytestmark = pytest.mark.parametrize("kind", ["gaussian", "categorical"])
each_step_size = pytest.mark.parametrize("step_size", ["number", "per-weight"])


class Problem(NamedTuple):
    """Fixed data of N tasks for up to three inner steps, and weights other than the collecting."""

    policy: nn.Module
    loss: Loss
    slow: Params
    lr: Params
    support: list[Batch]
    query: Batch


def make_problem(kind, step_size="per-weight", steps=3):
    space = Box(-0.5, 0.5, (2,)) if kind == "gaussian" else Discrete(3)
    policy = MLP(Box(-1, 1, (2,)), space, (3,))
    gen = torch.Generator().manual_seed(0)
    collecting = random_params(policy, gen)
    data = [random_batch(policy, collecting, gen, N) for _ in range(steps + 1)]
    slow = {k: 0.8 * p for k, p in collecting.items()}
    shape = {k: p.shape if step_size == "per-weight" else () for k, p in slow.items()}
    lr = {k: 0.1 + 0.3 * torch.rand(shape[k], generator=gen).double() for k in slow}

    def loss(params, batch):
        return surrogate(policy, params, batch)

    return Problem(policy, loss, slow, lr, data[:-1], data[-1])


def live(params):
    return {k: p.detach().clone().requires_grad_() for k, p in params.items()}


def adapt_all(problem, first_order=False):
    slow = per_task(live(problem.slow), N)
    return adapt(problem.loss, slow, problem.support, problem.lr, 0 if first_order else 3)


def objective(problem, first_order=False):
    """Mean loss after adaptation as a function of slow weights and step sizes in one dict."""

    def f(weights):
        slow, lr = ({k: weights[f"{what} {k}"] for k in problem.slow} for what in ("slow", "lr"))
        fast = per_task(slow, N)
        path = adapt(problem.loss, fast, problem.support, lr, 0 if first_order else 3)
        return problem.loss(path[-1], problem.query).mean()

    return f


def weights(problem):
    named = {"slow": problem.slow, "lr": problem.lr}
    return {f"{what} {k}": p for what, group in named.items() for k, p in group.items()}


@each_step_size
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_meta_gradient_matches_finite_differences(kind, step_size, steps):
    problem = make_problem(kind, step_size, steps)
    f = objective(problem)
    want = finite_difference(f, weights(problem))
    assert_close(gradient(f, weights(problem)), want, rtol=1e-6, atol=1e-8)


def adapt_alone(problem, n):
    """Task n's weights after each step and the gradient of each, in plain Python, no task axis."""
    own, path, steps = problem.slow, [problem.slow], []
    for data in problem.support:
        step = gradient(lambda p, d=data: problem.loss(p, task_row(d, n)).sum(), own)
        own = {k: own[k] - problem.lr[k] * step[k] for k in own}
        path.append(own)
        steps.append(step)
    return path, steps


@each_step_size
def test_each_step_is_a_gradient_step_on_each_task_alone(kind, step_size):
    problem = make_problem(kind, step_size)
    path = adapt_all(problem)
    assert len(path) == 4
    for n in range(N):
        for fast, want in zip(path, adapt_alone(problem, n)[0], strict=True):
            assert_close({k: p[n] for k, p in fast.items()}, want)


def test_first_order_is_the_gradient_at_the_adapted_weights(kind):
    problem = make_problem(kind)
    got = gradient(objective(problem, first_order=True), weights(problem))
    want = {k: torch.zeros_like(p) for k, p in weights(problem).items()}
    for n in range(N):
        path, steps = adapt_alone(problem, n)
        last = gradient(lambda p, n=n: problem.loss(p, task_row(problem.query, n)).sum(), path[-1])
        for k, g in last.items():
            want[f"slow {k}"] += g / N
            want[f"lr {k}"] -= g * sum(step[k] for step in steps) / N
    assert_close(got, want)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_second_order_part_is_not_zero(kind, steps):
    problem = make_problem(kind, steps=steps)
    full, first = (gradient(objective(problem, fo), weights(problem)) for fo in (False, True))
    for k in problem.slow:
        assert (full[f"slow {k}"] - first[f"slow {k}"]).abs().max() > 1e-3, k


def test_first_and_second_order_adapt_to_the_same_weights(kind):
    problem = make_problem(kind)
    assert_close(adapt_all(problem), adapt_all(problem, first_order=True), rtol=0, atol=0)


def test_step_size_zero_is_the_identity(kind):
    problem = make_problem(kind)
    problem = problem._replace(lr={k: torch.zeros_like(p) for k, p in problem.lr.items()})
    for after in adapt_all(problem):
        assert_close(after, per_task(problem.slow, N), rtol=0, atol=0)
    got = gradient(objective(problem), weights(problem))
    plain = gradient(lambda p: problem.loss(p, problem.query).mean(), problem.slow)
    assert_close({k: got[f"slow {k}"] for k in plain}, plain)


def test_without_inner_steps_the_meta_objective_is_the_plain_one(kind):
    problem = make_problem(kind, steps=0)

    def plain(w):
        return problem.loss({k: w[f"slow {k}"] for k in problem.slow}, problem.query).mean()

    assert_close(objective(problem)(weights(problem)), plain(weights(problem)))
    assert_close(gradient(objective(problem), weights(problem)), gradient(plain, weights(problem)))


def test_permuting_the_tasks_permutes_the_results(kind):
    problem = make_problem(kind)
    order = [2, 0, 1]

    def shuffled(batch):
        rows = [task_row(batch, n) for n in order]
        return Batch(*(torch.cat(x) for x in list(zip(*rows, strict=True))[:-2]), batch.dist, 1)

    support = [shuffled(b) for b in problem.support]
    other = problem._replace(support=support, query=shuffled(problem.query))
    want = [{k: p[order] for k, p in fast.items()} for fast in adapt_all(problem)]
    assert_close(adapt_all(other), want)
    one, two = (gradient(objective(p), weights(p)) for p in (problem, other))
    assert_close(one, two)


def test_tasks_do_not_talk(kind):
    """Another task's data moves nothing, and no weight feels the first weights of another task."""
    problem = make_problem(kind)
    fast = live(per_task(problem.slow, N))
    last = adapt(problem.loss, fast, problem.support, problem.lr)[-1]
    changed = [b._replace(adv=b.adv.clone()) for b in problem.support]
    for batch in changed:
        batch.adv[1] *= -3
    moved = adapt(problem.loss, live(fast), changed, problem.lr)[-1]
    for k, p in last.items():
        assert_close(moved[k][[0, 2]], p[[0, 2]], rtol=0, atol=0)
        assert not torch.allclose(moved[k][1], p[1])
    felt = torch.autograd.grad(sum(p[0].sum() for p in last.values()), list(fast.values()))
    for g in felt:
        assert_close(g[1:], torch.zeros_like(g[1:]), rtol=0, atol=0)
        assert g[0].abs().max() > 0.1


def test_an_inner_step_leaves_its_inputs_as_they_are(kind):
    problem = make_problem(kind)
    fast = live(per_task(problem.slow, N))
    before = {k: p.detach().clone() for k, p in fast.items()}
    after = inner_update(problem.loss, fast, problem.support[0], problem.lr)
    assert_close({k: p.detach() for k, p in fast.items()}, before, rtol=0, atol=0)
    assert all(p.grad is None for p in fast.values())
    assert not any(torch.equal(after[k], p) for k, p in fast.items())


def test_weights_for_each_task_are_views(kind):
    slow = make_problem(kind).slow
    for k, p in per_task(slow, N).items():
        assert p.shape == (N, *slow[k].shape)
        assert p.data_ptr() == slow[k].data_ptr()
