"""Convolutional policies against torch's own conv2d, one task at a time; and trained through."""

import dataclasses

import numpy as np
import pytest
import torch
from agents_reference import gradient, random_params
from gymnasium.spaces import Box, Discrete
from planes import Lamp
from torch.nn.functional import conv2d
from torch.testing import assert_close
from waiting import counted

from metarl.agents.inner.inner_update import per_task
from metarl.agents.networks.choose import make_policy
from metarl.agents.networks.cnn import CNN, convolve, patches
from metarl.agents.networks.policy import MLP, act_dist
from metarl.config.presets import preset
from metarl.envs import UsageError, make_family, sample_tasks
from metarl.outer.inner_loop import collect_and_adapt
from metarl.outer.meta_objective import meta_loss
from metarl.outer.train_state import named_weights, with_weights
from metarl.training.meta_train import meta_train, new_agent

N, M = 3, 4
SHAPES = [(2, 8, 8), (3, 9, 12), (1, 36, 45)]  # two boards, one with an odd side; a picture


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def setup(shape, action_space=None, lead=(N,)):
    space = Box(0, 1, shape)
    policy = CNN(space, action_space or Discrete(3), (7, 5))
    obs = torch.rand(N, M, *shape, generator=gen(1)).double()
    return policy, random_params(policy, gen(), lead), obs


def network_of_one_task(p, obs):
    """Logits at obs (M, C, H, W) under weights without a task axis, by torch's conv2d alone."""
    if (
        p["filters.0.weight"].dim() == 2
    ):  # 3 x 3 windows, row by row, all channels of a cell together
        weight = p["filters.0.weight"].view(16, 3, 3, obs.shape[1]).permute(0, 3, 1, 2)
        x = conv2d(obs, weight, p["filters.0.bias"], stride=2, padding=1).tanh()
        x = x.permute(0, 2, 3, 1)
    else:
        x = conv2d(obs, p["filters.0.weight"], p["filters.0.bias"], stride=4).tanh()
        x = conv2d(x, p["filters.1.weight"], p["filters.1.bias"], stride=2).tanh()
    x = (x.flatten(1) @ p["layers.0.weight"].T + p["layers.0.bias"]).tanh()
    return x @ p["layers.1.weight"].T + p["layers.1.bias"]


def loop_over_tasks(params, obs):
    return torch.stack(
        [network_of_one_task({k: p[n] for k, p in params.items()}, obs[n]) for n in range(N)]
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_each_task_is_acted_in_with_its_own_weights(shape):
    policy, params, obs = setup(shape)
    assert_close(act_dist(policy, params, obs).logits, loop_over_tasks(params, obs))


@pytest.mark.parametrize("shape", SHAPES)
def test_shared_weights_act_like_the_same_weights_for_each_task(shape):
    policy, params, obs = setup(shape, lead=())
    shared, expanded = (act_dist(policy, p, obs).logits for p in (params, per_task(params, N)))
    assert_close(shared, expanded)
    assert_close(shared, loop_over_tasks(per_task(params, N), obs))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lead", [(N,), ()])
def test_gradients_and_those_of_gradients_are_those_of_the_loop(shape, lead):
    policy, params, obs = setup(shape, lead=lead)
    target = torch.randn(N, M, 3, generator=gen(2)).double()
    along = {k: torch.randn(p.shape, generator=gen(3)).double() for k, p in params.items()}

    def through(network):
        def loss(p):
            return (network(p).log_softmax(-1) * target).sum()

        def slope(p):
            grads = torch.autograd.grad(loss(p), list(p.values()), create_graph=True)
            return sum((g * along[k]).sum() for k, g in zip(p, grads, strict=True))

        return loss, slope

    ours = through(lambda p: act_dist(policy, p, obs).logits)
    loops = through(lambda p: loop_over_tasks(p if lead else per_task(p, N), obs))
    for f, want in zip(ours, loops, strict=True):
        got = gradient(f, params)
        assert_close(got, gradient(want, params))
        assert all(g.abs().max() > 0 for k, g in got.items() if k.endswith("weight"))


def test_patches_are_the_windows_around_every_other_cell():
    x = torch.rand(1, 1, 2, 5, 4, generator=gen())
    padded = torch.zeros(2, 7, 6)
    padded[:, 1:-1, 1:-1] = x[0, 0]
    want = [
        padded[:, i : i + 3, j : j + 3].permute(1, 2, 0).flatten()
        for i in (0, 2, 4)
        for j in (0, 2)
    ]
    assert_close(patches(x)[0], torch.stack(want), rtol=0, atol=0)


@pytest.mark.parametrize("stride", [1, 3])
def test_convolve_is_conv2d_of_each_task(stride):
    x = torch.randn(N, M, 2, 7, 8, generator=gen()).double()
    weight, bias = (torch.randn(N, 5, *s, generator=gen(1)).double() for s in ((2, 3, 3), ()))
    want = [conv2d(x[n], weight[n], bias[n], stride) for n in range(N)]
    assert_close(convolve(x, weight, bias, stride), torch.stack(want))
    shared = conv2d(x.flatten(0, 1), weight[0], bias[0], stride)
    assert_close(convolve(x, weight[0], bias[0], stride).flatten(0, 1), shared)


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_start_orthogonal_with_a_small_last_layer_and_zero_biases(shape):
    policy = CNN(Box(0, 1, shape), Box(-1, 1, (2,)), (9, 6), log_std_init=-0.5)
    params = policy.initial(gen())
    assert list(params) == [k for k, _ in policy.named_parameters()]
    assert_close(params.pop("log_std"), torch.full((2,), -0.5))
    assert params["layers.1.weight"].shape == (2, 6)
    for name, p in params.items():
        if name.endswith("bias"):
            assert_close(p, torch.zeros_like(p))
            continue
        gain = 0.01 if name == "layers.1.weight" else 2**0.5
        flat = p.flatten(1) if len(p) <= p[0].numel() else p.flatten(1).T
        assert_close(flat @ flat.T, gain**2 * torch.eye(len(flat)), rtol=1e-5, atol=1e-5 * gain)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("network", [CNN, MLP])
@pytest.mark.parametrize("lead", [(N,), ()])
def test_bytes_are_seen_as_their_255th_part(shape, network, lead):
    policy = network(Box(0, 255, shape, np.uint8), Discrete(3), (7,))
    params = random_params(policy, gen(), lead)
    obs = torch.randint(256, (N, M, *shape), generator=gen(1), dtype=torch.uint8)
    assert_close(
        act_dist(policy, params, obs).logits, act_dist(policy, params, obs.double() / 255).logits
    )


@pytest.mark.parametrize(
    ("shape", "kind", "network"),
    [
        ((2, 8, 8), "auto", CNN),
        ((2, 8, 7), "auto", MLP),
        ((3, 5, 5), "auto", MLP),
        ((8, 8), "auto", MLP),
        ((64,), "auto", MLP),
        ((2, 8, 8), "mlp", MLP),
        ((3, 5, 5), "cnn", CNN),
    ],
)
def test_the_network_is_chosen_by_the_shape_of_the_observation(shape, kind, network):
    @dataclasses.dataclass
    class Spaces:
        observation_space = Box(0, 1, shape)
        action_space = Discrete(3)

    assert type(make_policy(Spaces(), kind, (4,), 0.0)) is network


def test_what_is_no_image_is_refused_with_advice():
    with pytest.raises(UsageError, match=r"is not an image .*--network mlp"):
        CNN(Box(0, 1, (8, 8)), Discrete(3))
    with pytest.raises(UsageError, match="is not an image"):
        new_agent(preset("cartpole", network="cnn"), make_family("cartpole"))


def test_no_hidden_layer_means_from_the_filters_to_the_actions():
    policy = CNN(Box(0, 1, (2, 8, 8)), Discrete(3), ())
    assert {k: tuple(p.shape) for k, p in policy.initial(gen()).items()} == {
        "filters.0.weight": (16, 18),
        "filters.0.bias": (16,),
        "layers.0.weight": (3, 256),
        "layers.0.bias": (3,),
    }


def small(**more):
    size = {"iterations": 2, "tasks": 3, "episodes": 3, "hidden": (4,), "inner_lr": 0.3}
    return preset("lamp", **{**size, **more})


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("size", [8, 36])
def test_meta_gradient_through_a_cnn_matches_finite_differences(steps, size):
    """Some coordinates of every weight, float64; weights are random."""
    world = Lamp(size=size, horizon=4)
    cfg = small(inner_steps=steps, inner_kl=0.5)
    agent = new_agent(cfg, world)
    params = {k: 0.5 * p for k, p in random_params(agent.policy, gen()).items()}
    agent = dataclasses.replace(
        agent,
        params={k: p.requires_grad_() for k, p in params.items()},
        inner_lr={k: p.double().requires_grad_() for k, p in agent.inner_lr.items()},
    )
    data = collect_and_adapt(cfg, agent, world, sample_tasks(world, cfg.tasks, gen(1)), gen(2))
    weights = {
        k: (w + 0.02 * torch.randn(w.shape, generator=gen(3)).double()).detach().requires_grad_()
        for k, w in named_weights(agent).items()
    }

    def f(w):
        return meta_loss(cfg, with_weights(agent, w), data)

    got = torch.autograd.grad(f(weights), list(weights.values()))
    assert all(g.abs().max() > 1e-6 for g in got)
    for (name, w), g in zip(weights.items(), got, strict=True):
        for i in {0, w.numel() // 2, int(g.abs().argmax())}:
            ends = []
            for eps in (1e-6, -1e-6):
                moved = w.detach().clone()
                moved.view(-1)[i] += eps
                ends.append(f({**weights, name: moved.requires_grad_()}).item())
            want = (ends[0] - ends[1]) / 2e-6
            assert_close(g.view(-1)[i].item(), want, rtol=1e-4, atol=1e-7, msg=f"{name}[{i}]")


every_world = pytest.mark.parametrize(
    "world",
    [Lamp(), Lamp(size=36, bytes=True), Lamp(size=12, several=True)],
    ids=["board", "picture of bytes", "several actions"],
)


@every_world
def test_a_meta_iteration_runs_on_the_meta_device_up_to_its_metrics(world):
    cfg = small(inner_steps=2)
    agent = new_agent(cfg, world, "meta")
    assert isinstance(agent.policy, CNN)
    agent = dataclasses.replace(
        agent, params={k: p.requires_grad_() for k, p in agent.params.items()}
    )
    data = collect_and_adapt(cfg, agent, world, sample_tasks(world, cfg.tasks, device="meta"), None)
    for first in (True, False):
        meta_loss(cfg, agent, data, first).backward()
    assert all(r.obs.is_meta and r.logp.is_meta for r in data.rollouts)


@every_world
def test_a_meta_iteration_waits_for_the_device_only_to_read_the_metrics(world, monkeypatch):
    trainer = meta_train(small(inner_steps=2, iterations=3), world)
    next(trainer)
    for maker in ("tensor", "from_numpy", "as_tensor"):
        monkeypatch.setattr(torch, maker, lambda *a, _n=maker, **k: pytest.fail(f"torch.{_n}"))
    with counted(monkeypatch) as (reads, waits):
        next(trainer)
    assert waits == []
    assert reads == ["tolist"]


@every_world
def test_meta_training_raises_the_return_after_adaptation(world):
    """Chance gets 1.5 of 6. The return before stays near there, since the wiring is unknown."""
    cfg = small(
        iterations=12, tasks=8, episodes=10, hidden=(16,), inner_lr=1.0, gamma=0.0, meta_lr=0.01
    )
    metrics = [s.metrics for s in meta_train(cfg, world)]
    after = [m["train/return_after"] for m in metrics]
    assert sum(after[-3:]) / 3 > sum(after[:3]) / 3 + 0.7, after


def test_rollouts_keep_bytes_and_blank_the_padding():
    world = Lamp(bytes=True)
    agent = new_agent(small(), world)
    data = agent.play(world, sample_tasks(world, 2, gen()), 3, gen())
    assert data.obs.dtype == torch.uint8
    assert data.obs.shape == (2, 6, 3, 2, 8, 8)
    assert data.obs.max() == 255
