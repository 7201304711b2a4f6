"""Which weights a task changes: those and no others, through acting, learning and training."""

import dataclasses

import pytest
import torch
from agents_reference import Walk, random_params
from gymnasium.spaces import Box, Discrete
from planes import Lamp
from small import small
from torch.testing import assert_close

from metarl.agents.networks.cnn import CNN
from metarl.agents.networks.distributions import Gaussian
from metarl.agents.networks.policy import MLP, act_dist
from metarl.config.settings import TrainConfig
from metarl.envs import UsageError, make_family
from metarl.outer.inner_loop import collect_and_adapt
from metarl.training.meta_train import meta_train, new_agent

N, M = 3, 5
WALK, LAMP = Walk(horizon=4), Lamp(horizon=3)
DENSE = ["layers.0.weight", "layers.0.bias"]
LAST = ["layers.1.weight", "layers.1.bias"]
FILTERS = ["filters.0.weight", "filters.0.bias"]
ADAPTERS = ["lora_down.0", "lora_down.1", "lora_up.0", "lora_up.1"]
MOVES = [  # family, rule, and the weights that it moves
    (WALK, "all", ["log_std", *DENSE, *LAST]),
    (WALK, "head", ["log_std", *LAST]),
    (WALK, "body", DENSE),
    (WALK, "context", ["context"]),
    (WALK, "lora", ADAPTERS),
    (LAMP, "all", [*FILTERS, *DENSE, *LAST]),
    (LAMP, "head", LAST),
    (LAMP, "body", [*FILTERS, *DENSE]),
    (LAMP, "context", ["context"]),
    (LAMP, "lora", ADAPTERS),
]
every_rule = pytest.mark.parametrize(("world", "fast", "names"), MOVES)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def settings(**more):
    size = {"tasks": N, "episodes": 3, "hidden": (3,), "context": 2, "rank": 2, "inner_lr": 0.5}
    return TrainConfig(**{**size, **more})


def tasks(world):
    return world.task_type(torch.arange(1.0, N + 1).unsqueeze(-1))


@every_rule
def test_learning_moves_these_weights_and_leaves_all_others_bit_by_bit(world, fast, names):
    agent = new_agent(settings(fast=fast), world)
    # Adapters below have no slope while those above are 0, so that one step would not do.
    after = agent.adapt(world, tasks(world), steps=3, episodes=8, gen=gen())
    assert after.params.keys() == agent.params.keys()
    for name, p in agent.params.items():
        q = after.params[name]
        if name in names:
            assert q.shape == (N, *p.shape)
            assert all(not torch.equal(q[n], p) for n in range(N)), name
        else:
            assert q.shape == p.shape
            assert torch.equal(q, p), name
    assert agent.adapted is False
    assert after.adapted is True


@every_rule
@pytest.mark.parametrize("second_order_steps", [20, 1, 0])
def test_the_path_of_training_moves_these_weights_alone(world, fast, names, second_order_steps):
    cfg = settings(fast=fast, inner_steps=2, second_order_steps=second_order_steps)
    agent = new_agent(cfg, world)
    slow = {k: p.requires_grad_() for k, p in agent.params.items()}
    data = collect_and_adapt(cfg, agent, world, tasks(world), gen())
    for step in data.path:
        for name, p in step.items():
            assert p.shape == ((N, *slow[name].shape) if name in names else slow[name].shape)
            assert name in names or p is slow[name]
    assert [any(p.dim() > slow[k].dim() for k, p in step.items()) for step in data.path] == [
        True
    ] * 3


def test_training_moves_what_the_context_goes_through_and_never_the_context():
    cfg = small("point-navigation", fast="context", iterations=3, inner_steps=2, inner_lr=1.0)
    world = make_family("point-navigation")
    first = new_agent(cfg, world)
    *_, last = meta_train(cfg, world)
    assert (last.agent.params["context"] == 0).all()
    assert not any(k.startswith("params/context/") for k in last.opt)
    for name, p in first.params.items():
        assert torch.equal(last.agent.params[name], p) == (name == "context"), name


@pytest.mark.parametrize("step_size", ["per-tensor", "per-step", "per-weight"])
def test_training_moves_the_step_sizes_of_the_context(step_size):
    cfg = small("cartpole", fast="context", step_size=step_size, inner_steps=2)
    world = make_family("cartpole")
    *_, last = meta_train(cfg, world)
    (size,) = last.agent.inner_lr.values()
    assert (
        size.shape == {"per-tensor": (), "per-step": (2,), "per-weight": (cfg.context,)}[step_size]
    )
    assert (size != cfg.inner_lr).all()


def eighths(x):
    """Multiples of 1/8 nearby: sums of products of a few of them have no rounding."""
    return (8 * x).round() / 8


@pytest.mark.parametrize("hidden", [(), (4,), (4, 3)])
@pytest.mark.parametrize("action_space", [Discrete(3), Box(-2, 2, (2,))])
def test_a_context_is_further_inputs_that_are_always_the_same(hidden, action_space):
    """Bit by bit the policy of a network by hand with three more inputs, also by their gradient."""
    policy = MLP(Box(-1, 1, (2,)), action_space, hidden, context=3)
    wide = MLP(Box(-1, 1, (2 + 3,)), action_space, hidden)
    params = {k: eighths(p) for k, p in random_params(policy, gen(), (N,)).items()}
    obs = eighths(torch.randn(N, M, 2, generator=gen(1)).double())
    inputs = params["context"].unsqueeze(1).expand(N, M, 3).clone().requires_grad_()
    context = params["context"].clone().requires_grad_()
    by_hand = {k: p for k, p in params.items() if not k.startswith("context")}
    by_hand["layers.0.weight"] = torch.cat(
        (params["layers.0.weight"], params["context_weight"]), dim=-1
    )
    got = act_dist(policy, {**params, "context": context}, obs)
    want = act_dist(wide, by_hand, torch.cat((obs, inputs), dim=-1))
    assert_close(tuple(got), tuple(want), rtol=0, atol=0)
    (felt,) = torch.autograd.grad(got[0].square().sum(), context)
    (each,) = torch.autograd.grad(want[0].square().sum(), inputs)
    assert_close(felt, each.sum(1))
    shared = {k: p[0] for k, p in params.items()}
    assert_close(act_dist(policy, shared, obs)[0][0], got[0][0])


def test_a_context_of_a_cnn_goes_into_its_first_dense_layer():
    policy = CNN(Box(0, 1, (2, 8, 8)), Discrete(3), (4,), context=3)
    plain = CNN(Box(0, 1, (2, 8, 8)), Discrete(3), (4,))
    params = random_params(policy, gen(), (N,))
    obs = torch.rand(N, M, 2, 8, 8, generator=gen(1)).double()
    by_hand = {k: p for k, p in params.items() if not k.startswith("context")}
    shift = torch.einsum("noc,nc->no", params["context_weight"], params["context"])
    by_hand["layers.0.bias"] = by_hand["layers.0.bias"] + shift
    assert_close(act_dist(policy, params, obs), act_dist(plain, by_hand, obs))


NETWORKS = [
    (MLP, Box(-1, 1, (2,)), Box(-2, 2, (2,)), (4, 3)),
    (MLP, Box(-1, 1, (2,)), Discrete(3), ()),
    (CNN, Box(0, 1, (2, 8, 8)), Discrete(3), (4,)),
]


@pytest.mark.parametrize(("network", "seen", "acts", "hidden"), NETWORKS)
@pytest.mark.parametrize("lead", [(N,), ()])
def test_an_adapter_is_its_product_added_to_the_weight(network, seen, acts, hidden, lead):
    policy, plain = network(seen, acts, hidden, rank=2), network(seen, acts, hidden)
    params = random_params(policy, gen(), lead)
    obs = torch.rand(N, M, *seen.shape, generator=gen(1)).double()
    dense = {k: p for k, p in params.items() if not k.startswith("lora")}
    for i in range(len(policy.layers)):
        product = params[f"lora_up.{i}"] @ params[f"lora_down.{i}"]
        assert product.shape == dense[f"layers.{i}.weight"].shape
        dense[f"layers.{i}.weight"] = dense[f"layers.{i}.weight"] + product
    assert_close(act_dist(policy, params, obs), act_dist(plain, dense, obs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("world", [WALK, LAMP])
@pytest.mark.parametrize("fast", ["context", "lora"])
def test_before_adaptation_neither_context_nor_adapters_change_the_policy(world, fast):
    """And they can learn: one factor of each product is not 0."""
    agent, plain = (new_agent(settings(fast=f), world) for f in (fast, "all"))
    same = {k: agent.params[k] for k in plain.params}
    obs = torch.rand(N, M, *world.observation_space.shape, generator=gen())
    got, want = act_dist(agent.policy, agent.params, obs), act_dist(plain.policy, same, obs)
    assert_close(got, want, rtol=0, atol=0)
    low = [p for k, p in agent.params.items() if k.startswith(("lora_down", "context_weight"))]
    assert low
    assert all((p != 0).any() for p in low)


def test_the_fast_standard_deviation_of_a_head_is_that_of_its_task():
    agent = new_agent(settings(fast="head"), WALK)
    after = agent.adapt(WALK, tasks(WALK), steps=1, episodes=3, gen=gen())
    dist = act_dist(after.policy, after.params, torch.zeros(N, M, 2))
    assert isinstance(dist, Gaussian)
    half = torch.tensor(WALK.action_space.high).log()
    for n in range(N):
        assert_close(dist.log_std.expand(N, M, 2)[n, 0], after.params["log_std"][n] + half)


def test_a_body_of_no_layers_is_refused_with_advice():
    world = make_family("point-navigation")
    cfg = dataclasses.replace(small("point-navigation"), fast="body", hidden=())
    with pytest.raises(UsageError, match=r"--fast body: .* --hidden 64, or another --fast"):
        new_agent(cfg, world)
    assert new_agent(cfg, LAMP).inner_lr.keys() == set(FILTERS)
