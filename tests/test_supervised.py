"""The same adaptation learns to regress and to classify: it asks of a loss only a derivative."""

import math

import pytest
import torch
from agents_reference import directional_difference, gradient
from torch import nn
from torch.testing import assert_close

from metarl.agents.inner.inner_update import adapt, per_task
from metarl.agents.networks.policy import affine

# Sinusoid regression, section 5.1 of MAML (Finn et al. 2017, arXiv:1703.03400).


def draw_sinusoids(n, gen):
    """Amplitude and phase of n tasks, (n, 1, 1)."""
    amplitude = 0.1 + 4.9 * torch.rand(n, 1, 1, generator=gen)
    return amplitude, math.pi * torch.rand(n, 1, 1, generator=gen)


def draw_points(sinusoids, k, gen):
    """k points of each curve, x and y (n, k, 1)."""
    amplitude, phase = sinusoids
    x = 10 * torch.rand(len(amplitude), k, 1, generator=gen) - 5
    return x, amplitude * (x - phase).sin()


def curve(params, x):
    """A network 1-40-40-1 with ReLU."""
    for i in range(2):
        x = affine(x, params[f"weight {i}"], params[f"bias {i}"]).relu()
    return affine(x, params["weight 2"], params["bias 2"])


def squared_error(params, data):
    x, y = data
    return (curve(params, x) - y).square().mean((1, 2))


def meta_train(seed, iterations=10_000, tasks=25, k=10):
    """Slow weights after Adam on the error that one inner step leaves."""
    gen = torch.Generator().manual_seed(seed)
    params = {}
    for i, (wide, out) in enumerate(((1, 40), (40, 40), (40, 1))):
        scale = math.sqrt(2 / wide)
        params[f"weight {i}"] = (scale * torch.randn(out, wide, generator=gen)).requires_grad_()
        params[f"bias {i}"] = torch.zeros(out, requires_grad=True)
    optimizer = torch.optim.Adam(params.values(), 1e-3)
    for _ in range(iterations):
        sinusoids = draw_sinusoids(tasks, gen)
        support, query = (draw_points(sinusoids, k, gen) for _ in range(2))
        after = adapt(squared_error, per_task(params, tasks), [support], step_size(params))[-1]
        optimizer.zero_grad()
        squared_error(after, query).mean().backward()
        optimizer.step()
    return params


def step_size(params):
    return {k: torch.tensor(0.01) for k in params}


def errors(params, k, steps, tasks=500):
    """Mean squared error of held-out tasks after 0 ... `steps` steps on the same k points."""
    gen = torch.Generator().manual_seed(10_000)  # a stream that training never uses
    sinusoids = draw_sinusoids(tasks, gen)
    support, query = draw_points(sinusoids, k, gen), draw_points(sinusoids, 100, gen)
    fast = per_task({k: p.detach().requires_grad_() for k, p in params.items()}, tasks)
    path = adapt(squared_error, fast, [support] * steps, step_size(params), second_order_steps=0)
    return [squared_error(p, query).mean().item() for p in path]


@pytest.mark.learning
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_sinusoid_is_learned_from_few_points_in_one_step(seed):
    """The best fixed curve, the mean of all, leaves 3.0; one step of adaptation gets half."""
    params = meta_train(seed)
    ten, five = errors(params, 10, 10), errors(params, 5, 1)
    assert 2.5 < ten[0] < 10
    assert 2.5 < five[0] < 10
    assert 0 <= ten[1] < 1.5
    assert 0 <= five[1] < 2.0
    assert 0 <= ten[10] < ten[1]  # more steps than it trained for go on improving


# A linear softmax classifier with the shape of an image data set's, 784 -> 10.

TASKS, SHOTS, PIXELS, CLASSES, LR = 2, 15, 784, 10, 0.4


def cross_entropy(params, data):
    x, label = data
    logits = affine(x, params["weight"], params["bias"])
    return nn.functional.cross_entropy(logits.mT, label, reduction="none").mean(1)


def images(gen):
    x = torch.rand(TASKS, SHOTS, PIXELS, generator=gen).double()
    return x, torch.randint(CLASSES, (TASKS, SHOTS), generator=gen)


def classifier(steps):
    """Slow weights and the meta-objective through `steps` inner steps, float64."""
    gen = torch.Generator().manual_seed(0)
    slow = {
        "weight": 0.05 * torch.randn(CLASSES, PIXELS, generator=gen).double(),
        "bias": 0.05 * torch.randn(CLASSES, generator=gen).double(),
    }
    support, query = [images(gen) for _ in range(steps)], images(gen)
    lr = {k: torch.tensor(LR).double() for k in slow}

    def objective(params):
        path = adapt(cross_entropy, per_task(params, TASKS), support, lr)
        return cross_entropy(path[-1], query).mean()

    return slow, objective, support, query


@pytest.mark.parametrize("steps", [1, 2])
def test_meta_gradient_of_a_classifier_matches_finite_differences(steps):
    slow, objective, _, _ = classifier(steps)
    grad, eps = gradient(objective, slow), 1e-6
    gen = torch.Generator().manual_seed(1)
    for _ in range(20):
        direction = {k: torch.randn(p.shape, generator=gen).double() for k, p in slow.items()}
        step = {k: eps * d for k, d in direction.items()}
        want = directional_difference(objective, slow, step) / eps
        assert_close(
            sum((grad[k] * d).sum() for k, d in direction.items()), want, rtol=1e-5, atol=1e-7
        )
    for i in torch.randint(CLASSES * PIXELS, (50,), generator=gen).tolist():
        one = torch.zeros(CLASSES * PIXELS).double()
        one[i] = eps
        want = directional_difference(objective, slow, {"weight": one.view(CLASSES, PIXELS)}) / eps
        assert_close(grad["weight"].flatten()[i], want, rtol=1e-5, atol=1e-8)


def test_meta_gradient_of_a_classifier_matches_its_closed_form():
    """(I - lr H) g, with g and H of softmax regression written out, pixels and bias as one."""
    slow, objective, support, query = classifier(1)
    matrix = torch.cat((slow["weight"], slow["bias"].unsqueeze(1)), 1)

    def with_one(x):
        return torch.cat((x, torch.ones(SHOTS, 1).double()), 1)

    def slope(weights, x, label):
        miss = (x @ weights.T).softmax(-1) - nn.functional.one_hot(label, CLASSES)
        return miss.T @ x / SHOTS

    def curvature_times(weights, x, v):
        chance, push = (x @ weights.T).softmax(-1), x @ v.T
        return (chance * (push - (chance * push).sum(-1, keepdim=True))).T @ x / SHOTS

    want, second = torch.zeros_like(matrix), torch.zeros_like(matrix)
    for n in range(TASKS):
        (x, label), (x_query, label_query) = ((with_one(a[n]), b[n]) for a, b in (*support, query))
        g = slope(matrix - LR * slope(matrix, x, label), x_query, label_query)
        second += LR * curvature_times(matrix, x, g) / TASKS
        want += g / TASKS
    want -= second
    assert second.abs().max() > 0.01 * want.abs().max()  # dropping it would show
    got = gradient(objective, slow)
    assert_close(torch.cat((got["weight"], got["bias"].unsqueeze(1)), 1), want)
