"""iMAML: proximal points against closed form, gradients against those through all iterations."""

import dataclasses

import pytest
import torch
from inner_problem import live, make_problem
from small import small
from torch.testing import assert_close
from waiting import counted

from agents.adapt import inner_update
from envs import make_family, sample_tasks
from metarl.experience import adapt_again, chunks, play_and_adapt
from metarl.meta_training import meta_train, new_agent
from metarl.objective import loss_of
from metarl.outer.gradient import trained_weights
from metarl.outer.implicit import implicit_gradient, improve
from metarl.state import named_weights, with_weights

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
    assert_close(value, loss.detach())
    assert_close(list(grads.values()), list(through), rtol=1e-6, atol=1e-9)
    blind = implicit_gradient(dataclasses.replace(cfg, cg_steps=1), agent, weights, data)[1]
    worst = max((grads[k] - blind[k]).abs().max() for k in grads)
    assert worst > 1e-6  # the linear system matters


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
        data = play_and_adapt(cfg, agent, family, part, gen)
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
