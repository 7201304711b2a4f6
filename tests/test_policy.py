"""Batched policies against one plain network for each task."""

import math

import numpy as np
import pytest
import torch
from agents_reference import random_params
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from torch import nn
from torch.testing import assert_close

from metarl.agents.inner.inner_update import per_task
from metarl.agents.networks.distributions import ABSENT, Categorical, Gaussian, MultiCategorical
from metarl.agents.networks.policy import MLP, act_dist
from metarl.envs.core.errors import UsageError

N, M = 3, 5
HIGH = np.array([0.1, 2.0], np.float32)
PLANE = Box(-1, 1, (4,))
IMAGE = Box(0, 1, (2, 3, 2))
SYMMETRIC = Box(-HIGH, HIGH)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def plain_network(params):
    """The network of one task out of torch's own layers; weights without a task axis."""
    count = sum(k.endswith("weight") for k in params)
    layers = []
    for i in range(count):
        weight = params[f"layers.{i}.weight"]
        linear = nn.Linear(weight.shape[1], weight.shape[0]).double()
        linear.load_state_dict({k: params[f"layers.{i}.{k}"] for k in ("weight", "bias")})
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
@pytest.mark.parametrize("observation_space", [PLANE, IMAGE])
@pytest.mark.parametrize("action_space", [SYMMETRIC, Discrete(3)])
def test_each_task_is_acted_in_with_its_own_weights(observation_space, action_space, hidden):
    policy = MLP(observation_space, action_space, hidden)
    params = random_params(policy, gen(), (N,))
    obs = torch.randn(N, M, *observation_space.shape, generator=gen(1)).double()
    dist = act_dist(policy, params, obs)
    for n in range(N):
        own = {k: p[n] for k, p in params.items()}
        out = plain_network(own)(obs[n].reshape(M, -1))
        if isinstance(action_space, Discrete):
            assert isinstance(dist, Categorical)
            assert_close(dist.logits[n], out)
        else:
            assert isinstance(dist, Gaussian)
            assert_close(dist.mean[n], out * torch.tensor(HIGH))
            log_std = dist.log_std.expand(N, M, 2)[n]
            assert_close(log_std, (own["log_std"] + torch.tensor(HIGH).log()).expand(M, 2))


@pytest.mark.parametrize(
    ("action_space", "counts"),
    [(MultiDiscrete([3, 1, 2]), [3, 1, 2]), (MultiBinary(2), [2, 2])],
)
def test_several_actions_share_the_last_layer_and_absent_choices_are_never_taken(
    action_space, counts
):
    policy = MLP(PLANE, action_space, (8,))
    params = random_params(policy, gen(), (N,))
    obs = torch.randn(N, M, 4, generator=gen(1)).double()
    dist = act_dist(policy, params, obs)
    assert isinstance(dist, MultiCategorical)
    for n in range(N):
        out = plain_network({k: p[n] for k, p in params.items()})(obs[n])
        for i, own in enumerate(out.view(M, len(counts), -1).unbind(1)):
            assert_close(dist.logits[n, :, i, : counts[i]], own[:, : counts[i]])
            assert (dist.logits[n, :, i, counts[i] :] == ABSENT).all()
    acts = dist.sample(dist.noise(gen=gen(2)))
    assert action_space.contains(acts[0, 0].numpy().astype(action_space.dtype))
    assert acts.amax((0, 1)).tolist() == [n - 1 for n in counts]


@pytest.mark.parametrize("action_space", [SYMMETRIC, Discrete(3), MultiDiscrete([3, 2])])
def test_shared_weights_act_like_the_same_weights_for_each_task(action_space):
    policy = MLP(PLANE, action_space, (8,))
    params = random_params(policy, gen())
    obs = torch.randn(N, M, 4, generator=gen(1)).double()
    shared, expanded = (act_dist(policy, p, obs) for p in (params, per_task(params, N)))
    assert type(shared) is type(expanded)
    for one, two in zip(shared, expanded, strict=True):
        whole = (N, M, *one.shape[-1 if one.dim() < 4 else -2 :])
        assert_close(one.expand(whole), two.expand(whole))


@pytest.mark.parametrize("name", ["layers.0.weight", "layers.1.bias", "log_std"])
def test_a_missing_weight_raises_instead_of_using_the_modules_own(name):
    policy = MLP(PLANE, SYMMETRIC, (8,))
    params = policy.initial(gen())
    del params[name]
    with pytest.raises(RuntimeError, match="Missing key"):
        act_dist(policy, params, torch.zeros(N, M, 4))


def test_weights_start_orthogonal_with_a_small_last_layer_and_zero_biases():
    policy = MLP(PLANE, SYMMETRIC, (8, 6), log_std_init=-0.5)
    params = policy.initial(gen())
    assert list(params) == [k for k, _ in policy.named_parameters()]
    for i, gain in enumerate((math.sqrt(2), math.sqrt(2), 0.01)):
        weight = params[f"layers.{i}.weight"]
        assert weight.shape == policy.layers[i].weight.shape
        short = weight if weight.shape[0] <= weight.shape[1] else weight.T
        assert_close(short @ short.T, gain**2 * torch.eye(len(short)), rtol=1e-5, atol=1e-6 * gain)
        assert_close(params[f"layers.{i}.bias"], torch.zeros(weight.shape[0]))
    assert_close(params["log_std"], torch.full((2,), -0.5))


def test_a_context_starts_with_a_last_layer_that_it_can_act_through():
    params = MLP(PLANE, SYMMETRIC, (8,), context=2).initial(gen())
    weight = params["layers.1.weight"]
    assert_close(weight @ weight.T, torch.eye(len(weight)))
    assert not params["context"].any()


def test_the_same_generator_gives_the_same_first_weights():
    policy = MLP(PLANE, Discrete(3), (8,))
    one, same, other = (policy.initial(gen(seed)) for seed in (0, 0, 1))
    assert_close(one, same, rtol=0, atol=0)
    assert not torch.equal(one["layers.0.weight"], other["layers.0.weight"])


def test_the_first_policy_is_near_to_uniform():
    policy = MLP(PLANE, Discrete(4))
    dist = act_dist(policy, policy.initial(gen()), torch.randn(N, M, 4, generator=gen(1)))
    assert_close(dist.logits.softmax(-1), torch.full((N, M, 4), 0.25), atol=0.01, rtol=0)


def test_the_first_policy_spreads_over_half_the_action_box():
    policy = MLP(PLANE, SYMMETRIC, log_std_init=-1.0)
    obs = torch.randn(N, M, 4, generator=gen(1))
    dist = act_dist(policy, policy.initial(gen()), obs)
    assert_close(dist.log_std.exp(), math.exp(-1) * torch.tensor(HIGH))
    assert_close(dist.mean / torch.tensor(HIGH), torch.zeros(N, M, 2), atol=0.05, rtol=0)


def test_actions_scale_with_the_box():
    """One set of weights, one draw of noise: in a box twice as large, actions twice as large."""
    unit = MLP(PLANE, Box(-1, 1, (2,)), (8,))
    params = random_params(unit, gen())
    obs = torch.randn(N, M, 4, generator=gen(1)).double()
    small, large = (act_dist(p, params, obs) for p in (unit, MLP(PLANE, SYMMETRIC, (8,))))
    acts = [dist.sample(dist.noise(gen=gen(2))) for dist in (large, small)]
    assert_close(acts[0], acts[1] * torch.tensor(HIGH))


def test_bits_are_observations_too():
    policy = MLP(MultiBinary(4), Discrete(2), (8,))
    assert act_dist(policy, policy.initial(gen()), torch.ones(N, M, 4)).logits.shape == (N, M, 2)


@pytest.mark.parametrize(
    ("observation_space", "action_space", "advice"),
    [
        (Discrete(5), Discrete(2), "Box or MultiBinary"),
        (Box(-1, 1, ()), Discrete(2), "at least one axis"),
        (Dict(x=PLANE), Discrete(2), "Box or MultiBinary"),
        (
            PLANE,
            MultiDiscrete([[2, 3]]),
            "one-dimensional bounded Box, MultiDiscrete that starts at 0, or MultiBinary",
        ),
        (PLANE, MultiDiscrete([2, 3], start=[0, 1]), "MultiDiscrete that starts at 0"),
        (PLANE, MultiBinary((2, 2)), "one-dimensional .* MultiBinary"),
        (PLANE, Discrete(3, start=1), "give a Discrete that starts at 0"),
        (PLANE, Dict(x=PLANE), "give a Discrete that starts at 0, .* bounded Box"),
        (PLANE, Box(-np.inf, np.inf, (2,)), "bounded Box"),
        (PLANE, Box(-1, 1, (2, 2)), "one-dimensional"),
        (PLANE, Box(0, 1, (2,)), "symmetric about 0"),
        (PLANE, Box(np.array([-1, -2]), np.array([1, 1])), "symmetric about 0"),
    ],
)
def test_a_space_it_cannot_take_is_refused_with_advice(observation_space, action_space, advice):
    with pytest.raises(UsageError, match=advice):
        MLP(observation_space, action_space)
