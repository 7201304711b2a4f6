"""The trust region: its search, its update, and what it never touches."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close
from trpo_problem import kl_after_adaptation, problem, small, world
from waiting import counted

from metarl.agents.rollouts.batch import Batch
from metarl.envs import sample_tasks
from metarl.evaluation.evaluate import evaluate
from metarl.evaluation.statistics import interval
from metarl.outer import trpo
from metarl.outer.inner_loop import adapt_again, collect_and_adapt
from metarl.outer.meta_objective import meta_loss
from metarl.outer.train_state import named_weights, with_weights
from metarl.outer.update import trained_weights
from metarl.training.meta_train import meta_train, new_agent


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

    def play(cfg, agent, family, part, gen, on_phase_end):
        data = next(left)
        return data._replace(path=adapt_again(cfg, agent, data))

    monkeypatch.setattr(trpo, "collect_and_adapt", play)


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
    assert len(some.collected) == 3


def test_a_gradient_that_is_not_finite_moves_nothing(monkeypatch):
    cfg = small()
    agent, weights, (data,) = problem(cfg)
    bad = data._replace(query=data.query._replace(adv=data.query.adv * NAN))
    update = improved(monkeypatch, cfg, agent, [bad])
    assert update.metrics["train/grad_norm"].isnan()
    assert_close(update.weights, {k: w.detach() for k, w in weights.items()}, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["walk", "cartpole"])
def test_the_host_reads_once_a_trial_and_then_the_metrics(family, monkeypatch):
    played, trials = world(family), []
    cfg = small(family=played.name, inner_steps=2, tasks=2, episodes=2)
    trainer = meta_train(cfg, played)
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
    data = collect_and_adapt(cfg, agent, family, sample_tasks(family, 3, device="meta"), None)
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
    assert interval((after.returns - before.returns)[:, 1])[0] > 0
