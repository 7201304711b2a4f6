"""The meta-trainer: exact to resume, honest about bad numbers, and free of host synchronisation."""

import dataclasses
import itertools
import weakref
from typing import ClassVar

import pytest
import torch
from agents_reference import surrogate
from reference import TENSOR
from torch.testing import assert_close
from waiting import counted

from metarl.agents.networks.distributions import Categorical
from metarl.agents.rollouts.batch import Batch
from metarl.config.presets import preset
from metarl.envs import RunError, make_family, sample_tasks
from metarl.envs.classic_control.point_navigation import PointNavigation
from metarl.outer import OUTER
from metarl.outer.inner_loop import collect_and_adapt
from metarl.outer.meta_objective import meta_loss
from metarl.outer.train_state import named_weights, with_weights
from metarl.training.meta_train import MAX_SKIPPED, meta_train, new_agent

SMALL = {"iterations": 4, "tasks": 3, "episodes": 2, "hidden": (8,)}


def small(family="point-navigation", algo="promp", **more):
    return dataclasses.replace(preset(family, algo), **{**SMALL, **more})


@pytest.mark.parametrize("family", TENSOR)
@pytest.mark.parametrize("algo", ["promp", "maml"])
def test_resuming_equals_never_stopping(family, algo):
    cfg, world = small(family, algo, inner_steps=2, lr_decay=True), make_family(family)
    whole = list(meta_train(cfg, world))
    half = next(itertools.islice(meta_train(cfg, world), 1, None))
    rest = list(meta_train(cfg, world, half))
    assert [s.iteration for s in rest] == [3, 4]
    assert_close(named_weights(rest[-1].agent), named_weights(whole[-1].agent), rtol=0, atol=0)
    assert_close(rest[-1].opt, whole[-1].opt, rtol=0, atol=0)
    assert rest[-1].metrics == whole[-1].metrics
    assert rest[-1].env_steps == whole[-1].env_steps


def test_a_yielded_state_is_not_changed_by_going_on():
    cfg, world = small(), make_family("point-navigation")
    trainer = meta_train(cfg, world)
    state = next(trainer)
    kept = {k: w.clone() for k, w in {**named_weights(state.agent), **state.opt}.items()}
    next(trainer)
    assert_close({**named_weights(state.agent), **state.opt}, kept, rtol=0, atol=0)


def test_every_weight_and_step_size_moves_and_fixed_step_sizes_stay():
    world = make_family("point-navigation")
    for step_size, moves in (("per-weight", True), ("fixed", False)):
        cfg = small(step_size=step_size, iterations=2, log_std_init=-1.0)
        before = named_weights(new_agent(cfg, world))
        after = named_weights(list(meta_train(cfg, world))[-1].agent)
        for name in before:
            changed = not torch.equal(before[name], after[name])
            assert changed == (moves or name.startswith("params/")), name


def test_the_seed_decides_weights_tasks_and_episodes():
    world = make_family("point-navigation")
    one, same, other = (
        list(meta_train(small(seed=s, iterations=1), world))[-1].metrics for s in (0, 0, 1)
    )
    assert one == same
    assert one["train/return_before"] != other["train/return_before"]


def objective_of_fixed_data(cfg, world, dtype=torch.float64):
    """Data of one iteration and, as a function of the weights alone, its objective."""
    agent = new_agent(cfg, world)
    task = sample_tasks(world, cfg.tasks, torch.Generator().manual_seed(1))
    agent = dataclasses.replace(
        agent,
        params={k: p.to(dtype).requires_grad_() for k, p in agent.params.items()},
        inner_lr={k: p.to(dtype).requires_grad_() for k, p in agent.inner_lr.items()},
    )
    agent.policy.to(dtype)
    task = type(task)(*(x.to(dtype) for x in task))
    data = collect_and_adapt(cfg, agent, world, task, torch.Generator().manual_seed(2))
    return agent, data


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_first_epoch_through_the_kept_graph_equals_adapting_anew(steps):
    cfg = small(inner_steps=steps, epochs=1)
    agent, data = objective_of_fixed_data(cfg, make_family("point-navigation"))
    leaves = list(named_weights(agent).values())
    kept = torch.autograd.grad(meta_loss(cfg, agent, data, first=True), leaves, allow_unused=True)
    anew = torch.autograd.grad(meta_loss(cfg, agent, data), leaves, allow_unused=True)
    for a, b in zip(kept, anew, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_close(a, b)


@pytest.mark.parametrize(("steps", "multi_step"), [(0, False), (1, False), (2, False), (2, True)])
@pytest.mark.parametrize("away", [0.0, 0.05])
def test_meta_gradient_of_the_whole_objective_matches_finite_differences(steps, away, multi_step):
    """Clip and inner KL included; `away` moves off the collecting weights, where both act."""
    cfg = small(inner_steps=steps, multi_step=multi_step, inner_kl=0.5, hidden=(4,), inner_lr=0.3)
    agent, data = objective_of_fixed_data(cfg, make_family("point-navigation"))
    gen = torch.Generator().manual_seed(3)
    weights = {
        k: (w + away * torch.randn(w.shape, generator=gen, dtype=w.dtype)).detach().requires_grad_()
        for k, w in named_weights(agent).items()
    }

    def f(w):
        return meta_loss(cfg, with_weights(agent, w), data)

    got = torch.autograd.grad(f(weights), list(weights.values()), allow_unused=True)
    for (name, w), g in zip(weights.items(), got, strict=True):
        for i in range(0, w.numel(), 3):
            ends = []
            for eps in (1e-6, -1e-6):
                moved = w.detach().clone()
                moved.view(-1)[i] += eps
                ends.append(f({**weights, name: moved.requires_grad_()}).item())
            want = (ends[0] - ends[1]) / 2e-6
            have = 0.0 if g is None else g.view(-1)[i].item()
            assert_close(have, want, rtol=1e-4, atol=1e-7, msg=f"{name}[{i}]: {have} {want}")


def test_the_multi_step_loss_is_the_mean_over_all_steps_of_adaptation():
    cfg = small(inner_steps=3, clip=0.0, multi_step=True, inner_kl=0.0)
    agent, data = objective_of_fixed_data(cfg, make_family("point-navigation"))
    after = [*data.support[1:], data.query]
    each = [
        surrogate(agent.policy, fast, batch).mean()
        for fast, batch in zip(data.path[1:], after, strict=True)
    ]
    assert_close(meta_loss(cfg, agent, data), torch.stack(each).mean())
    last = dataclasses.replace(cfg, multi_step=False)
    assert_close(meta_loss(last, agent, data), each[-1])


def test_at_zero_inner_steps_the_objective_is_the_plain_surrogate():
    cfg = small(inner_steps=0, clip=0.0)
    agent, data = objective_of_fixed_data(cfg, make_family("point-navigation"))
    assert isinstance(data.query, Batch)
    plain = surrogate(agent.policy, agent.params, data.query).mean()
    assert_close(meta_loss(cfg, agent, data), plain)


class Poisoned(PointNavigation):
    """A family that breaks where it is told to."""

    where: ClassVar[str] = "reward"

    def step(self, state, act, task, noise):
        nxt, rew, terminated = super().step(state, act, task, noise)
        bad = torch.where(task.goal_x > 0.2, float("nan"), 0.0)
        return (
            (nxt, rew + bad, terminated)
            if self.where == "reward"
            else (type(nxt)(nxt.pos + bad.unsqueeze(-1)), rew, terminated)
        )


@pytest.mark.parametrize("where", ["reward", "observation"])
def test_a_nan_from_a_family_stops_and_says_where(where, monkeypatch):
    monkeypatch.setattr(Poisoned, "where", where)
    with pytest.raises(
        RunError, match=rf"{where} is nan at step \d+ of episode \d+ with goal_x=0\.\d+.*finite"
    ):
        list(meta_train(small(tasks=8), Poisoned()))


def test_a_non_finite_gradient_skips_the_update_and_several_stop_the_run():
    cfg, world = small(iterations=50), make_family("point-navigation")
    good = next(meta_train(cfg, world))
    broken = dataclasses.replace(
        good.agent, inner_lr={k: torch.full_like(p, 1e30) for k, p in good.agent.inner_lr.items()}
    )
    states = []
    advice = f"not finite {MAX_SKIPPED} times in a row.*a lower --inner-lr"
    with pytest.raises(RunError, match=advice):
        states.extend(meta_train(cfg, world, dataclasses.replace(good, agent=broken)))
    assert [s.skipped for s in states] == list(range(1, MAX_SKIPPED))
    assert states[-1].metrics["train/skipped_updates"] == MAX_SKIPPED - 1
    assert_close(named_weights(states[-1].agent), named_weights(broken), rtol=0, atol=0)
    assert_close(states[-1].opt, good.opt, rtol=0, atol=0)


@pytest.mark.parametrize("family", TENSOR)
def test_a_meta_iteration_waits_for_the_device_only_to_read_the_metrics(family, monkeypatch):
    """Reads are counted where Python asks for them, and where an operation would need them."""
    cfg, world = small(family, inner_steps=2), make_family(family)
    trainer = meta_train(cfg, world)
    next(trainer)  # makes the constant tables
    for maker in ("tensor", "from_numpy", "as_tensor"):  # copies from the host
        monkeypatch.setattr(torch, maker, lambda *a, _n=maker, **k: pytest.fail(f"torch.{_n}"))
    with counted(monkeypatch) as (reads, waits):
        next(trainer)
    assert waits == []
    assert reads == ["tolist"]


@pytest.mark.parametrize("family", TENSOR)
def test_a_meta_iteration_runs_on_the_meta_device_up_to_its_metrics(family):
    """No value can be read there and nothing be made on another device: the program is pure."""
    cfg, world = small(family, inner_steps=2), make_family(family)
    agent = new_agent(cfg, world, "meta")
    agent = dataclasses.replace(
        agent, params={k: p.requires_grad_() for k, p in agent.params.items()}
    )
    task = sample_tasks(world, cfg.tasks, device="meta")
    data = collect_and_adapt(cfg, agent, world, task, None)
    for first in (True, False):
        meta_loss(cfg, agent, data, first).backward()
    assert all(r.obs.is_meta and r.logp.is_meta for r in data.rollouts)


def joined(batches):
    """The batches of several chunks of tasks as one; of a Categorical policy."""
    logits = torch.cat([b.dist.logits for b in batches])
    columns = zip(*(b[:-2] for b in batches), strict=True)
    return Batch(*(torch.cat(x) for x in columns), Categorical(logits), batches[0].episodes)


@pytest.mark.parametrize("away", [0.0, 0.02])
def test_the_gradient_of_chunks_of_tasks_is_that_of_all_tasks_at_once(away):
    cfg = small("cartpole", tasks=5, inner_steps=1, multi_step=False)
    world = make_family("cartpole")
    agent, _ = objective_of_fixed_data(cfg, world, torch.float32)
    task = sample_tasks(world, 5, torch.Generator().manual_seed(1))
    gen = torch.Generator().manual_seed(2)
    parts = [type(task)(*(x[a:b] for x in task)) for a, b in ((0, 2), (2, 4), (4, 5))]
    data = [collect_and_adapt(cfg, agent, world, part, gen) for part in parts]
    whole = data[0]._replace(
        support=[joined([d.support[0] for d in data])], query=joined([d.query for d in data])
    )
    weights = {k: (w + away).detach().requires_grad_() for k, w in named_weights(agent).items()}
    agent = with_weights(agent, weights)
    leaves = list(weights.values())
    want = torch.autograd.grad(meta_loss(cfg, agent, whole), leaves)
    shares = [len(part[0]) / 5 for part in parts]
    total = sum(s * meta_loss(cfg, agent, d) for s, d in zip(shares, data, strict=True))
    assert_close(torch.autograd.grad(total, leaves), want, rtol=1e-5, atol=1e-6)


def test_chunks_train_every_task_and_measure_all_of_them():
    cfg, world = small(tasks=5, task_chunk=2, inner_steps=1), make_family("point-navigation")
    whole = list(meta_train(cfg, world))
    half = next(itertools.islice(meta_train(cfg, world), 1, None))
    assert_close(
        named_weights(list(meta_train(cfg, world, half))[-1].agent),
        named_weights(whole[-1].agent),
        rtol=0,
        atol=0,
    )
    assert whole[0].env_steps > 4 * 2 * 2 * 90  # five tasks, two episodes, twice


def test_without_inner_steps_nothing_is_learned_of_their_sizes():
    cfg, family = small(inner_steps=0, iterations=2), make_family("point-navigation")
    first = new_agent(cfg, family)
    *_, last = meta_train(cfg, family)
    assert_close(last.agent.inner_lr, first.inner_lr, rtol=0, atol=0)
    name = "layers.0.weight"
    assert not torch.equal(last.agent.params[name], first.params[name])


@pytest.mark.parametrize("algo", ["promp", "es-maml", "reptile", "rl2"])
def test_a_falling_step_size_is_half_of_the_first_half_way(algo):
    world = make_family("point-navigation")
    cfg = small(algo=algo, iterations=2, lr_decay=True)
    first, last = meta_train(cfg, world)
    halved = {k: getattr(cfg, k) / 2 for k in ("meta_lr", "meta_lr_of_steps", "entropy")}
    half = dataclasses.replace(cfg, lr_decay=False, **halved)
    want = list(meta_train(half, world, first))[-1]
    assert_close(named_weights(last.agent), named_weights(want.agent), rtol=0, atol=0)
    whole = list(meta_train(dataclasses.replace(cfg, lr_decay=False), world))
    assert_close(named_weights(first.agent), named_weights(whole[0].agent), rtol=0, atol=0)
    moved = named_weights(whole[1].agent)
    assert any(not torch.equal(w, moved[k]) for k, w in named_weights(last.agent).items())


def test_what_an_iteration_played_is_gone_when_the_next_one_plays(monkeypatch):
    """Memory would be that of two."""
    cfg, world = small("point-navigation", iterations=3), make_family("point-navigation")
    plain, seen = OUTER["gradient"], []

    def improve(*args):
        assert [ref() for ref in seen] == [None] * len(seen)
        update = plain(*args)
        seen.extend(weakref.ref(r.obs) for _, rollouts in update.collected for r in rollouts)
        return update

    monkeypatch.setitem(OUTER, "gradient", improve)
    assert len(list(meta_train(cfg, world))) == 3
    assert seen
