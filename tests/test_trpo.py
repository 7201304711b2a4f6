"""The trust region: its curvature, its step, its search, and what it never touches."""

import dataclasses
from typing import ClassVar

import pytest
import torch
from gymnasium.spaces import MultiDiscrete
from torch.testing import assert_close
from waiting import counted

from agents.losses import Batch, mean_kl
from agents.policy import act_dist
from envs import sample_tasks
from envs.cartpole import CartPole
from envs.point_navigation import PointNavigation
from envs.snake import Snake
from metarl.evaluate import bootstrap, evaluate
from metarl.experience import adapt_again, chunks, play_and_adapt
from metarl.meta_train import meta_train, new_agent
from metarl.objective import meta_loss
from metarl.outer import trpo
from metarl.outer.gradient import trained_weights
from metarl.presets import preset
from metarl.state import named_weights, with_weights

SMALL = {"tasks": 3, "episodes": 3, "hidden": (5,), "inner_lr": 0.3, "damping": 0.0}


class Keys(PointNavigation):
    """Two keys at once instead of a velocity: left, none, right, and up or down."""

    action_space: ClassVar[MultiDiscrete] = MultiDiscrete([3, 2])

    def step(self, state, act, task, noise):
        x, y = act.unbind(-1)
        return super().step(state, 0.1 * torch.stack((x - 1.0, 2.0 * y - 1.0), -1), task, noise)


def world(name):
    families = {"keys": Keys, "walk": PointNavigation, "cartpole": CartPole, "snake": Snake}
    return families[name](horizon=8)


def small(inner_steps=1, **more):
    more = {**SMALL, "inner_steps": inner_steps, "multi_step": False, **more}
    return preset("point-navigation", "maml-trpo", **more)


def problem(cfg, family="walk"):
    """Settings, an agent in float64 far from its first weights, those that train, and its play."""
    family = world(family)
    agent, gen = new_agent(cfg, family), torch.Generator().manual_seed(1)
    agent.policy.double()
    agent = dataclasses.replace(
        agent,
        params={
            k: (p + 0.3 * torch.randn(p.shape, generator=gen)).double()
            for k, p in agent.params.items()
        },
        inner_lr={k: p.double() for k, p in agent.inner_lr.items()},
    )
    weights = trained_weights(cfg, agent)
    task = sample_tasks(family, cfg.tasks, gen)
    task = type(task)(*(x.double() for x in task))
    agent = with_weights(agent, weights)
    data = [play_and_adapt(cfg, agent, family, t, gen) for t in chunks(task, cfg.task_chunk)]
    return agent, weights, data


def kl_after_adaptation(cfg, agent, data):
    """KL from the policies that played to those of the agent's weights, mean over tasks; ()."""
    path = adapt_again(cfg, agent, data)
    played = [(path[-1], data.query)]
    if cfg.multi_step:
        played += [(path[k], data.support[k]) for k in range(1, cfg.inner_steps)]
    kl = [mean_kl(act_dist(agent.policy, fast, batch.obs), batch) for fast, batch in played]
    return sum(kl).mean() / len(kl)


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
    cfg = small(hidden=(4,), tasks=2, episodes=2, policy="cnn")
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


def scripted(monkeypatch, *outcomes):
    """Losses and KLs that each trial of the line search shall find; returns the trials made."""
    trials = []

    def outcome(cfg, agent, data):
        trials.append({k: w.clone() for k, w in named_weights(agent).items()})
        return tuple(torch.tensor(x) for x in outcomes[min(len(trials), len(outcomes)) - 1])

    monkeypatch.setattr(trpo, "outcome", outcome)
    return trials


NAN = float("nan")
BAD = [(1.0, 0.0), (2.0, 0.0), (0.5, 0.02), (NAN, 0.0), (0.5, NAN)]  # loss, KL


@pytest.mark.parametrize("worse", [0, 1, 5])
def test_the_search_takes_the_first_step_that_is_good(monkeypatch, worse):
    agent, weights, _ = problem(small())
    step = torch.linspace(-1, 1, len(trpo.flat(weights))).double()
    trials = scripted(monkeypatch, *BAD[:worse], (0.9, 0.01), (0.0, 0.0))
    moved = trpo.line_search(small(max_kl=0.01), agent, weights, step, torch.tensor(1.0), [])
    assert len(trials) == worse + 1
    assert_close(trpo.flat(moved), trpo.flat(weights) + 0.8**worse * step)
    assert_close({k: trials[-1][k] for k in moved}, moved, rtol=0, atol=0)


@pytest.mark.parametrize("bad", BAD)
def test_when_no_step_is_good_the_weights_are_the_same_bits(monkeypatch, bad):
    cfg = small(line_search=4)
    agent, weights, data = problem(cfg)
    trials = scripted(monkeypatch, bad)
    step = torch.ones_like(trpo.flat(weights))
    moved = trpo.line_search(cfg, agent, weights, step, torch.tensor(1.0), data)
    assert len(trials) == 4
    assert_close(moved, {k: w.detach() for k, w in weights.items()}, rtol=0, atol=0)


def replay(monkeypatch, recorded):
    """`improve` gets these experiences, chunk by chunk, with the graph that it would have made."""
    left = iter(recorded)

    def play(cfg, agent, family, part, gen, mark):
        data = next(left)
        return data._replace(path=adapt_again(cfg, agent, data))

    monkeypatch.setattr(trpo, "play_and_adapt", play)


def improved(monkeypatch, cfg, agent, recorded):
    replay(monkeypatch, recorded)
    task = type(recorded[0].task)(
        *(torch.cat(x) for x in zip(*(d.task for d in recorded), strict=True))
    )
    slow = {k: w.detach() for k, w in named_weights(agent).items()}
    return trpo.improve(cfg, with_weights(agent, slow), {}, None, task, None, lambda phase: None)


@pytest.mark.parametrize(
    "more", [{}, {"inner_steps": 2, "multi_step": True}, {"curvature_share": 0.4}], ids=str
)
def test_an_update_lowers_the_loss_within_the_bound(monkeypatch, more):
    cfg = small(**more)
    agent, _, (data,) = problem(cfg)
    update = improved(monkeypatch, cfg, agent, [data])
    after = with_weights(agent, {k: w.requires_grad_() for k, w in update.weights.items()})
    assert meta_loss(cfg, after, data) < meta_loss(cfg, agent, data)
    kl = kl_after_adaptation(cfg, after, data).item()
    assert 0.2 * cfg.max_kl < kl <= cfg.max_kl
    assert_close(update.metrics["train/meta_loss"], meta_loss(cfg, agent, data).detach())
    assert all(not w.requires_grad or w.is_leaf for w in update.weights.values())


@pytest.mark.parametrize("step_size", ["fixed", "per-weight", "per-step"])
def test_an_update_moves_every_weight_that_trains(monkeypatch, step_size):
    cfg = small(step_size=step_size)
    agent, weights, data = problem(cfg)
    update = improved(monkeypatch, cfg, agent, data)
    assert update.weights.keys() == weights.keys()
    assert ("inner_lr/log_std" in weights) == (step_size != "fixed")
    for k, w in update.weights.items():
        assert not torch.equal(w, weights[k]), k


def whole(parts):
    """The experiences of chunks of tasks as that of one."""

    def join(*batches):
        dist = type(batches[0].dist)(
            *(torch.cat(x) for x in zip(*(b.dist for b in batches), strict=True))
        )
        columns = zip(*(b[:5] for b in batches), strict=True)
        return Batch(*(torch.cat(x) for x in columns), dist, batches[0].episodes)

    task = type(parts[0].task)(*(torch.cat(x) for x in zip(*(d.task for d in parts), strict=True)))
    support = [join(*b) for b in zip(*(d.support for d in parts), strict=True)]
    return parts[0]._replace(task=task, support=support, query=join(*(d.query for d in parts)))


@pytest.mark.parametrize(
    "more", [{}, {"curvature_share": 0.4}, {"curvature": "first-order"}], ids=str
)
def test_chunks_of_tasks_make_the_update_of_all_at_once(monkeypatch, more):
    cfg = small(tasks=5, task_chunk=2, damping=0.01, **more)
    agent, _, parts = problem(cfg, "cartpole")
    assert len(parts) == 3
    some = improved(monkeypatch, cfg, agent, parts)
    once = improved(monkeypatch, dataclasses.replace(cfg, task_chunk=5), agent, [whole(parts)])
    assert_close(some.weights, once.weights)
    assert_close(some.metrics, once.metrics)
    assert len(some.played) == 3


def test_a_gradient_that_is_not_finite_moves_nothing(monkeypatch):
    cfg = small()
    agent, weights, (data,) = problem(cfg)
    bad = data._replace(query=data.query._replace(adv=data.query.adv * NAN))
    update = improved(monkeypatch, cfg, agent, [bad])
    assert update.metrics["train/grad_norm"].isnan()
    assert_close(update.weights, {k: w.detach() for k, w in weights.items()}, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["walk", "cartpole"])
def test_the_host_reads_once_a_trial_and_then_the_metrics(family, monkeypatch):
    cfg, trials = small(inner_steps=2, tasks=2, episodes=2), []
    trainer = meta_train(cfg, world(family))
    next(trainer)  # makes the constant tables
    real = trpo.outcome
    monkeypatch.setattr(trpo, "outcome", lambda *a: trials.append(1) or real(*a))
    with counted(monkeypatch) as (reads, waits):
        next(trainer)
    assert trials
    assert reads == ["__bool__"] * len(trials) + ["tolist"]
    assert waits == ["_local_scalar_dense"] * len(trials)


@pytest.mark.parametrize("curvature", ["exact", "first-order"])
def test_up_to_the_line_search_no_value_is_read(curvature):
    """On the meta device no value can be read and nothing be made on another device."""
    cfg, family = small(inner_steps=2, curvature=curvature, curvature_share=0.5), world("walk")
    agent = new_agent(cfg, family, "meta")
    weights = trained_weights(cfg, agent)
    agent = with_weights(agent, weights)
    data = play_and_adapt(cfg, agent, family, sample_tasks(family, 3, device="meta"), None)
    grad = trpo.flat_gradient([meta_loss(cfg, agent, data, first=True)], weights)
    product = trpo.curvature(cfg, agent, weights, [data])
    step = trpo.trust_region_step(product, grad, cfg.cg_steps, cfg.max_kl)
    loss, kl = trpo.outcome(cfg, with_weights(agent, trpo.like(step, weights)), [data])
    assert all(x.is_meta for x in (step, loss, kl))


def test_a_short_run_learns_to_adapt():
    cfg = small(tasks=10, episodes=10, hidden=(16,), iterations=15, inner_lr=1.0, damping=1e-5)
    family = world("walk")
    before = evaluate(new_agent(cfg, family), family, steps=1)
    *_, state = meta_train(cfg, family)
    after = evaluate(state.agent, family, steps=1)
    assert after.gain_ci95[1, 0] > 0
    assert bootstrap(after.returns - before.returns, 0)[1, 0] > 0
