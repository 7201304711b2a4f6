"""Every inner rule: its steps against a loop over tasks, its meta-gradient against differences."""

import dataclasses

import pytest
import torch
from agents_reference import finite_difference, gradient, task_row
from inner_problem import WORLDS, N, gen, loop_over_tasks, make_problem, of_task
from inner_reference import covering, inner_gradient
from torch.testing import assert_close

from metarl.agents.inner.inner_update import clip_each_task
from metarl.agents.networks.policy import act_dist
from metarl.agents.rollouts.batch import mean_kl
from metarl.outer.inner_loop import adapt_again
from metarl.outer.meta_objective import exploration_loss, meta_loss
from metarl.outer.train_state import named_weights, with_weights

LEVELS = {
    "fast": ["all", "head", "body", "context", "lora"],
    "estimator": [("lvc", 1.0), ("dice", 1.0), ("dice", 0.7), ("dice", 0.0), ("log-likelihood", 1)],
    "step_size": ["fixed", "per-tensor", "per-weight", "per-step"],
    "inner_steps": [1, 2, 3],
    "second_order_steps": [20, 1, 0],
    "inner_max_norm": [0.0, 100.0, 0.1],  # the last clips most steps
    "world": list(WORLDS),
    "inner_entropy": [0.0, 0.3],
    "multi_step": [False, True],
    "exploration": [0.0, 0.5],
}
CASES = list(covering(LEVELS))
every_case = pytest.mark.parametrize(
    "case", CASES, ids=["-".join(str(v) for v in case.values()) for case in CASES]
)


@every_case
def test_every_step_is_that_of_a_loop_over_tasks(case):
    problem = make_problem(case)
    path = adapt_again(problem.cfg, problem.agent, problem.data)
    paths, _ = loop_over_tasks(problem)
    assert len(path) == case["inner_steps"] + 1
    for n in range(N):
        got = [of_task(fast, problem.agent, n) for fast in path]
        assert_close([{k: p.detach() for k, p in own.items()} for own in got], paths[n])


def path_with_frozen_gradients(problem, frozen):
    """The path on which the first steps go by gradients that were computed elsewhere."""
    agent = problem.agent
    path = [agent.fast(N)]
    for k, batch in enumerate(problem.data.support):
        if k < len(frozen):
            lr = agent.step_size(k)
            path.append(
                {w: p - lr[w] * frozen[k][w] if w in lr else p for w, p in path[-1].items()}
            )
        else:
            path.append(agent.inner_step(path[-1], batch, k))
    return path


@every_case
def test_the_graph_kept_from_playing_gives_the_gradient_of_adapting_anew(case):
    cfg, agent, data, _ = make_problem(case, away=0.0)
    leaves = list(named_weights(agent).values())
    kept, anew = (
        torch.autograd.grad(meta_loss(cfg, agent, data, first), leaves, materialize_grads=True)
        for first in (True, False)
    )
    assert_close(kept, anew)


def inner_sum(path):
    """One number out of all weights of a path."""
    total = torch.zeros((), dtype=torch.float64)
    for k, fast in enumerate(path):
        for i, p in enumerate(fast.values()):
            total = total + (p * torch.randn(p.shape, generator=gen(100 * k + i)).double()).sum()
    return total


@every_case
def test_the_meta_gradient_and_that_of_the_path_match_finite_differences(case):
    """Along one direction in each weight and step size.

    Where steps are first-order their gradients are constants, computed by the loop over tasks.
    """
    problem = make_problem(case)
    cfg, agent, data, _ = problem
    _, steps = loop_over_tasks(problem)
    constant = max(0, cfg.inner_steps - cfg.second_order_steps)
    frozen = [
        {k: torch.stack([steps[n][step][k] for n in range(N)]) for k in agent.inner_lr}
        for step in range(constant)
    ]

    def both(weights):
        now = problem._replace(agent=with_weights(agent, weights))
        path = path_with_frozen_gradients(now, frozen)
        bare = dataclasses.replace(cfg, exploration=0.0)
        after = meta_loss(bare, now.agent, data._replace(path=path), first=True)
        credit = exploration_loss(cfg, now.agent, data, path).mean()
        kl = [
            mean_kl(act_dist(agent.policy, fast, b.obs), b).mean()
            for fast, b in zip(path[:-1], data.support, strict=True)
        ]
        total = after + cfg.exploration * credit + cfg.inner_kl * sum(kl)
        return torch.stack([total, inner_sum(path)]).detach()

    weights = named_weights(agent)
    leaves = list(weights.values())
    meta = torch.autograd.grad(meta_loss(cfg, agent, data), leaves, materialize_grads=True)
    inner = torch.autograd.grad(
        inner_sum(adapt_again(cfg, agent, data)), leaves, materialize_grads=True
    )
    for i, (name, w) in enumerate(weights.items()):
        along = torch.randn(w.shape, generator=gen(i)).double()
        ends = [
            both({**weights, name: (w + eps * along).detach().requires_grad_()})
            for eps in (1e-6, -1e-6)
        ]
        got = torch.stack([(meta[i] * along).sum(), (inner[i] * along).sum()])
        assert_close(
            got, (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-8, msg=lambda m, k=name: f"{k}: {m}"
        )


def test_a_clipped_gradient_has_the_bound_or_stays_and_has_the_derivative_of_both():
    """Task 0 is below the bound, task 1 above, and task 2 has no gradient at all."""
    size = torch.tensor([0.1, 2.0, 0.0]).double()
    grads = {
        "a": size.view(-1, 1, 1) * torch.randn(N, 2, 3, generator=gen()).double(),
        "b": size.view(-1, 1) * torch.randn(N, 4, generator=gen(1)).double(),
    }
    assert_close(
        clip_each_task(grads, 1.0), {k: torch.stack(x) for k, x in clipped_alone(grads).items()}
    )

    def out(g):
        return sum((x * torch.arange(1.0, 1 + x.numel()).view_as(x)).sum() for x in g.values())

    got = gradient(lambda g: out(clip_each_task(g, 1.0)), grads)
    assert_close(got, finite_difference(lambda g: out(clip_each_task(g, 1.0)), grads))


def clipped_alone(grads):
    scaled = {k: [] for k in grads}
    for n in range(N):
        norm = torch.cat([g[n].flatten() for g in grads.values()]).norm()
        for k, g in grads.items():
            scaled[k].append(g[n] / norm if norm > 1.0 else g[n])
    return scaled


def test_a_task_without_advantages_has_a_finite_meta_gradient_though_steps_are_clipped():
    cfg, agent, data, _ = make_problem({"world": "gaussian", "inner_max_norm": 0.1})
    data.support[0].adv[1] = 0.0
    leaves = list(named_weights(agent).values())
    for g in torch.autograd.grad(meta_loss(cfg, agent, data), leaves, materialize_grads=True):
        assert g.isfinite().all()


@pytest.mark.parametrize("step_size", ["per-step", "per-weight"])
def test_an_agent_that_learns_makes_the_steps_of_the_loop_and_keeps_to_the_last_step_size(
    step_size,
):
    """Step k uses entry k of its sizes; of two entries, the third step uses the second again."""
    case = {"world": "categorical", "step_size": step_size, "inner_steps": 2, "fast": "body"}
    problem = make_problem(case, away=0.0)
    agent, entries = problem.agent, [0, 1, 1]
    for k in range(3):
        rollout = problem.data.rollouts[k % 2]
        after, batch = agent.learn(rollout), agent.batch(rollout)
        assert after.steps == k + 1
        for n in range(N):
            own = of_task(agent.fast(N), agent, n)
            grads = inner_gradient(
                problem.plain, agent.rule, own, list(agent.inner_lr), task_row(batch, n)
            )
            for name, g in grads.items():
                lr = agent.inner_lr[name]
                lr = lr[entries[k]] if step_size == "per-step" else lr
                assert_close(after.params[name][n], (own[name] - lr * g).detach())
        agent = after


def test_each_entry_of_the_step_sizes_serves_its_own_step_alone():
    case = {"world": "gaussian", "step_size": "per-step", "inner_steps": 3}
    cfg, agent, data, _ = make_problem(case)
    path = adapt_again(cfg, agent, data)
    sizes = list(agent.inner_lr.values())
    for k in range(4):
        total = sum(p.square().sum() for p in path[k].values())
        for g in torch.autograd.grad(total, sizes, retain_graph=True, materialize_grads=True):
            assert (g[k:] == 0).all()
            assert (g[:k] != 0).all()
