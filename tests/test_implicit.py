"""iMAML: proximal points against closed form, gradients against those through all iterations."""

import dataclasses

import pytest
import torch
from inner_problem import live, make_problem
from small import small
from torch.testing import assert_close
from waiting import counted

from metarl.agents.inner.inner_update import inner_update
from metarl.envs import make_family, sample_tasks
from metarl.outer import imaml as implicit
from metarl.outer.imaml import implicit_gradient, improve
from metarl.outer.inner_loop import adapt_again, chunks, collect_and_adapt
from metarl.outer.meta_objective import loss_of
from metarl.outer.train_state import named_weights, with_weights
from metarl.outer.update import trained_weights
from metarl.training.meta_train import meta_train, new_agent

CASE = {"world": "gaussian", "step_size": "fixed", "inner_kl": 0.0, "clip": 0.0}
CASES = [
    {},
    {"inner_steps": 2},
    {"inner_steps": 2, "multi_step": True},
    {"world": "categorical", "estimator": ("dice", 0.7)},
    {"fast": "head"},
    {"fast": "body", "step_size": "per-step", "inner_steps": 2},
    {"fast": "context"},
    {"fast": "lora", "step_size": "per-tensor"},
    {"step_size": "per-weight", "inner_max_norm": 0.5},
    {"inner_entropy": 0.3},
]


def solved(**case):
    """A problem with small steps, so that iterations tend to the proximal point; in float64."""
    cfg, agent, data, _ = make_problem({**CASE, **case}, away=0.0)
    size = 1.0 if cfg.fast == "context" else 0.1  # a context bends little
    lr = {k: size * x.detach() for k, x in agent.inner_lr.items()}
    rule = dataclasses.replace(agent.rule, iterations=60)
    agent = live(dataclasses.replace(agent, inner_lr=lr, rule=rule))
    return dataclasses.replace(cfg, cg_steps=60), agent, data


def test_many_iterations_end_in_the_proximal_point_of_a_quadratic():
    gen = torch.Generator().manual_seed(0)
    root = torch.randn(2, 3, 3, generator=gen, dtype=torch.float64)
    a, b = root @ root.mT, torch.randn(2, 3, generator=gen, dtype=torch.float64)
    old, lr = torch.randn(2, 3, generator=gen, dtype=torch.float64), 0.05

    def loss(params, data):
        x = params["x"].unsqueeze(-1)
        return (0.5 * x.mT @ a @ x).flatten() - (b * params["x"]).sum(-1)

    start = {"x": old.requires_grad_()}
    new = inner_update(loss, start, None, {"x": torch.tensor(lr)}, iterations=200)["x"]
    eye = torch.eye(3, dtype=torch.float64)
    assert_close(new, torch.linalg.solve(a + eye / lr, b + old / lr))
    one = inner_update(loss, start, None, {"x": torch.tensor(lr)})["x"]
    assert (one - new).norm() > 0.01  # one gradient step is somewhere else


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_gradient_is_that_through_all_iterations(case):
    cfg, agent, data = solved(**case)
    weights = trained_weights(cfg, agent)
    now = with_weights(agent, weights)
    path = adapt_again(cfg, now, data)
    loss = loss_of(cfg, now, data, path, first=True)
    through = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
    data = data._replace(path=[{k: p.detach() for k, p in fast.items()} for fast in path])
    value, grads, residual = implicit_gradient(cfg, agent, weights, data)
    assert max(*residual.system, *residual.point) < 1e-8
    assert_close(value, loss.detach())
    assert_close(list(grads.values()), list(through), rtol=1e-6, atol=1e-9)
    blind = implicit_gradient(dataclasses.replace(cfg, cg_steps=1), agent, weights, data)[1]
    worst = max((grads[k] - blind[k]).abs().max() for k in grads)
    assert worst > 1e-6  # the linear system matters


def dense(product, b, steps):
    """The same system as a matrix; its condition is asserted to be no obstacle."""
    columns = [product(torch.ones_like(b).mul(e)) for e in torch.eye(b.shape[1], dtype=b.dtype)]
    a = torch.stack(columns, dim=-1)
    SEEN.append(a)
    return torch.linalg.solve(a, b), torch.zeros_like(b[:, 0])


SEEN = []  # matrices (N, P, P) that `dense` met


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"inner_steps": 2, "multi_step": True},
        {"world": "categorical"},
        {"step_size": "per-weight"},
        {"step_size": "per-weight", "inner_max_norm": 0.5},
        {"fast": "lora"},
    ],
    ids=str,
)
def test_steps_too_long_for_a_series_give_the_gradient_of_a_dense_solve(case, monkeypatch):
    """Step size times curvature is above 1, and below -1: the system is indefinite."""
    cfg, agent, data, _ = make_problem({**CASE, **case}, away=0.0)
    lr = {k: 400 * x.detach() for k, x in agent.inner_lr.items()}
    agent = live(dataclasses.replace(agent, inner_lr=lr))
    cfg = dataclasses.replace(cfg, cg_steps=80)
    weights = trained_weights(cfg, agent)
    path = [{k: p.detach() for k, p in fast.items()} for fast in data.path]
    data = data._replace(path=path)
    _, grads, residual = implicit_gradient(cfg, agent, weights, data)
    SEEN.clear()
    monkeypatch.setattr(implicit, "solve", dense)
    _, want, _ = implicit_gradient(cfg, agent, weights, data)
    assert residual.system.max() < 1e-8
    size = max(g.abs().max() for g in want.values())
    assert_close(list(grads.values()), list(want.values()), rtol=0, atol=1e-8 * size)
    shift = torch.cat([torch.linalg.eigvals(torch.eye(a.shape[1]) - a).real for a in SEEN], 1)
    assert shift.max() > 1  # of -dT/dnew: the system is indefinite
    assert shift.min() < -1  # a Neumann series diverges on either side


def test_repetition_that_would_overshoot_is_led_to_the_proximal_point():
    curvature, lr = torch.tensor([[0.5, 3.0, 40.0]] * 2).double(), 1.0

    def loss(params, data):
        return (0.5 * curvature * (params["x"] - 1).square()).sum(-1)

    start = {"x": torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)}
    new = inner_update(loss, start, None, {"x": torch.tensor(lr)}, iterations=400)["x"]
    assert_close(new, curvature / (curvature + 1 / lr), rtol=1e-6, atol=1e-6)


def test_an_update_whose_systems_are_not_solved_is_left_out_and_counted():
    cfg = small("cartpole", "imaml", iterations=1, inner_lr=100.0)
    cfg = dataclasses.replace(cfg, cg_steps=1)
    world = make_family("cartpole")
    before = named_weights(new_agent(cfg, world))
    (state,) = meta_train(cfg, world)
    assert state.metrics["train/unsolved_tasks"] > 0
    assert state.skipped == 1
    assert_close(named_weights(state.agent), before, rtol=0, atol=0)


def test_it_leaves_an_agent_that_does_not_adapt_its_plain_gradient():
    cfg, agent, data = solved(inner_steps=0)
    weights = trained_weights(cfg, agent)
    now = with_weights(agent, weights)
    data = data._replace(path=[now.fast(len(data.query.obs))])
    loss = loss_of(cfg, now, data, data.path, first=True)
    plain = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
    _, grads, _ = implicit_gradient(cfg, agent, weights, data)
    assert_close(list(grads.values()), list(plain))
    assert set(grads) <= set(named_weights(agent))


@pytest.mark.parametrize("chunk", [5, 2])
def test_an_update_goes_by_the_mean_gradient_of_all_tasks(chunk):
    cfg = small("cartpole", "imaml", tasks=5, task_chunk=chunk, inner_steps=2, max_grad_norm=1e9)
    family = make_family("cartpole")
    agent, task = new_agent(cfg, family), sample_tasks(family, 5, torch.Generator().manual_seed(1))
    gen = torch.Generator().manual_seed(2)
    update = improve(cfg, agent, {}, family, task, gen, lambda phase: None)
    gen, want = torch.Generator().manual_seed(2), dict.fromkeys(update.weights, 0.0)
    for part in chunks(task, chunk):
        data = collect_and_adapt(cfg, agent, family, part, gen)
        _, grads, _ = implicit_gradient(cfg, agent, trained_weights(cfg, agent), data)
        want = {k: want[k] + len(part[0]) / 5 * g for k, g in grads.items()}
    first = {k: 10 * update.opt[f"{k}/exp_avg"] for k in update.weights}  # of Adam's first moment
    assert_close(first, want, rtol=1e-4, atol=1e-6)
    for k, w in named_weights(agent).items():
        if k in want:
            clear = want[k].abs() > 1e-4
            moved = w - cfg.meta_lr * want[k].sign()
            assert_close(update.weights[k][clear], moved[clear], rtol=0, atol=1e-5)


def test_a_meta_iteration_waits_for_the_device_only_to_read_the_metrics(monkeypatch):
    trainer = meta_train(small("forager", "imaml", inner_steps=2), make_family("forager"))
    next(trainer)
    with counted(monkeypatch) as (reads, waits):
        next(trainer)
    assert waits == []
    assert reads == ["tolist"]
