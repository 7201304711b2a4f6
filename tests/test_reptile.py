"""Reptile and first-order MAML against plain loops over tasks and steps."""

import dataclasses

import pytest
import torch
from agents_reference import gradient, random_params
from gymnasium.spaces import Box, Discrete
from outer_reference import adapt_alone, row, some_batch
from small import small
from torch.testing import assert_close

from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.networks.policy import MLP, act_dist
from metarl.agents.rollouts.batch import clipped_surrogate
from metarl.envs import UsageError, make_family, sample_tasks
from metarl.outer.inner_loop import Experience, adapt_again, chunks, collect_and_adapt
from metarl.outer.maml import improve as improve_by_gradient
from metarl.outer.meta_objective import meta_loss
from metarl.outer.reptile import improve, reptile_gradient
from metarl.outer.train_state import named_weights
from metarl.training.meta_train import new_agent

N, LENGTHS = 3, [[4, 2], [1, 1], [3, 4]]


def fixed_data(steps):
    """Weights other than those that played, data of N tasks, and the path through it."""
    gen = torch.Generator().manual_seed(0)
    policy = MLP(Box(-1, 1, (2,)), Discrete(3), (3,))
    collecting = random_params(policy, gen)
    batches = [some_batch(policy, collecting, gen, LENGTHS) for _ in range(steps + 1)]
    lr = {k: torch.tensor(0.4).double() for k in collecting}
    agent = Agent(policy, {k: 0.9 * p for k, p in collecting.items()}, lr)
    data = Experience(None, [], batches[:-1], batches[-1], [])
    first_order = small("point-navigation", "reptile", inner_steps=steps, second_order_steps=0)
    return agent, data._replace(path=adapt_again(first_order, agent, data))


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_the_way_back_is_the_sum_of_all_gradients_of_k_plus_one_steps(steps):
    agent, data = fixed_data(steps)
    want = {k: torch.zeros_like(p) for k, p in agent.params.items()}
    for n in range(N):
        _, total = adapt_alone(agent, agent.params, [*data.support, data.query], n)
        want = {k: want[k] + g for k, g in total.items()}
    got = reptile_gradient(agent, data)
    assert_close(got, {f"params/{k}": g for k, g in want.items()})
    assert not any(g.requires_grad for g in got.values())


def first_moments(update):
    """The gradient that Adam was given: its first moment begins as a tenth of it."""
    return {k: 10 * update.opt[f"{k}/exp_avg"] for k in update.weights}


def setting(algo, **more):
    cfg = small("cartpole", algo, tasks=5, max_grad_norm=1e9, **more)
    family = make_family("cartpole")
    task = sample_tasks(family, 5, torch.Generator().manual_seed(1))
    return cfg, family, new_agent(cfg, family), task


@pytest.mark.parametrize("chunk", [5, 2])
@pytest.mark.parametrize("steps", [0, 2])
def test_the_outer_gradient_is_the_mean_way_back_of_all_tasks(chunk, steps):
    cfg, family, agent, task = setting("reptile", task_chunk=chunk, inner_steps=steps)
    args = (family, task, torch.Generator().manual_seed(2), lambda phase: None)
    update = improve(cfg, agent, {}, *args)
    gen, want = torch.Generator().manual_seed(2), dict.fromkeys(update.weights, 0.0)
    for part in chunks(task, chunk):
        data = collect_and_adapt(cfg, agent, family, part, gen)
        for n in range(len(part[0])):
            _, total = adapt_alone(agent, agent.params, [*data.support, data.query], n)
            want = {f"params/{k}": want[f"params/{k}"] + g / 5 for k, g in total.items()}
    assert_close(first_moments(update), want, rtol=1e-4, atol=1e-6)
    for k, w in named_weights(agent).items():
        moved = w - cfg.meta_lr * want[k].sign() if k in want else w
        clear = want.get(k, torch.ones_like(w)).abs() > 1e-4
        assert_close(update.weights.get(k, w)[clear], moved[clear], rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2])
def test_first_order_maml_is_the_mean_gradient_at_each_tasks_adapted_weights(steps):
    cfg, family, agent, task = setting("fomaml", inner_steps=steps, inner_lr=5.0, multi_step=False)
    args = (family, task, torch.Generator().manual_seed(2), lambda phase: None)
    update = improve_by_gradient(cfg, agent, {}, *args)
    data = collect_and_adapt(cfg, agent, family, task, torch.Generator().manual_seed(2))
    want = {k: torch.zeros_like(p) for k, p in agent.params.items()}
    for n in range(5):
        fast, _ = adapt_alone(agent, agent.params, data.support, n)

        def loss(own, query=row(data.query, n)):  # noqa: B008
            every = {k: p.unsqueeze(0) for k, p in own.items()}
            return clipped_surrogate(act_dist(agent.policy, every, query.obs), query, 0.0).sum()

        want = {k: want[k] + g / 5 for k, g in gradient(loss, fast).items()}
    assert_close(
        first_moments(update), {f"params/{k}": g for k, g in want.items()}, rtol=1e-3, atol=1e-6
    )
    second = dataclasses.replace(cfg, second_order_steps=20)
    leaves = {k: p.detach().requires_grad_() for k, p in agent.params.items()}
    whole = meta_loss(second, dataclasses.replace(agent, params=leaves), data)
    full = dict(zip(leaves, torch.autograd.grad(whole, list(leaves.values())), strict=True))
    assert (full["layers.1.weight"] - want["layers.1.weight"]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"algo": "reptile", "step_size": "per-weight"},
            "--step-size per-weight with --outer reptile: .*--step-size fixed, as --algo reptile",
        ),
        (
            {"algo": "es-maml", "step_size": "per-step"},
            "--step-size per-step with --outer es: .*--step-size fixed, as --algo es-maml does, or",
        ),
        (
            {"algo": "reptile", "inner_lr": 0.0},
            "--inner-lr 0 with --outer reptile: .*--inner-lr 0.1",
        ),
        ({"algo": "reptile", "fast": "head"}, "--fast head with --outer reptile: .*--fast all"),
        (
            {"algo": "es-maml", "multi_step": True},
            "--multi-step with --outer es: .*--no-multi-step",
        ),
        ({"algo": "es-maml", "exploration": 0.5}, "--exploration 0.5 with --outer es: .*0, or"),
    ],
)
def test_what_rules_without_derivatives_cannot_do_is_refused(settings, says):
    cfg = small(
        "point-navigation", settings["algo"], **{k: v for k, v in settings.items() if k != "algo"}
    )
    with pytest.raises(UsageError, match=says) as error:
        new_agent(cfg, make_family("point-navigation"))
    assert "\n" not in str(error.value)


def test_what_rules_without_derivatives_can_do_is_not_refused():
    for algo, more in (("reptile", {}), ("es-maml", {"fast": "head", "inner_lr": 0.0})):
        new_agent(small("point-navigation", algo, **more), make_family("point-navigation"))
