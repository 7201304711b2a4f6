"""Gymnasium's spaces as policies see them."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    Sequence,
    Text,
    Tuple,
)

from metarl.envs import UsageError
from metarl.envs.gym.env_contract import Malformed
from metarl.envs.gym.spaces import encode

KEYS, FLAT = Discrete(2), Box(-1.0, 1.0, (3,))


@pytest.mark.parametrize(
    ("space", "shape"),
    [
        (Box(-1.0, 1.0, (3,)), (3,)),
        (Box(-1.0, 1.0, (2, 4)), (8,)),
        (Box(-np.inf, np.inf, (2,), np.float64), (2,)),
        (Discrete(5, start=2), (5,)),
        (MultiDiscrete([2, 3]), (5,)),
        (MultiBinary(4), (4,)),
        (Tuple((Discrete(2), Box(0.0, 1.0, (2,)))), (4,)),
        (Dict({"a": Discrete(3), "b": Dict({"c": Box(0.0, 1.0, (2, 2))})}), (7,)),
        (Box(0, 255, (84, 84), np.uint8), (1, 84, 84)),
        (Box(0, 255, (210, 160, 3), np.uint8), (3, 210, 160)),
        (Box(0, 255, (4, 84, 84), np.uint8), (4, 84, 84)),
        (Box(0, 255, (4, 84, 80, 3), np.uint8), (12, 84, 80)),
        (Box(0.0, 1.0, (10, 10, 4)), (4, 10, 10)),
        (Box(0, 255, (10, 10, 7), np.uint8), (7, 10, 10)),
        (Box(0, 255, (84, 84, 12), np.uint8), (12, 84, 84)),
        (Box(0, 255, (210, 160, 12), np.uint8), (12, 210, 160)),
        (Box(0.0, 1.0, (9, 7, 21)), (21, 9, 7)),
        (Box(0.0, 1.0, (20, 7, 7)), (20, 7, 7)),
        (Box(0.0, 1.0, (16, 20, 18)), (18, 16, 20)),
        (Box(0, 255, (4, 10, 10, 7), np.uint8), (28, 10, 10)),
        (Box(0, 255, (4, 3, 84, 80), np.uint8), (12, 84, 80)),
    ],
)
def test_observations_become_flat_or_planes(space, shape):
    code = encode(space, KEYS)
    assert code.observation_space.shape == shape
    space.seed(0)
    for _ in range(5):
        raw = space.sample()
        seen = np.asarray(code.observe(raw)).astype(code.observation_space.dtype)
        assert code.observation_space.contains(seen)
        if isinstance(space, Box):  # nothing is lost, nothing is invented
            assert sorted(seen.flatten().tolist()) == sorted(
                raw.astype(seen.dtype).flatten().tolist()
            )


@pytest.mark.parametrize(
    ("image", "shape", "read"),
    [
        ("auto", (6, 8, 7), "an image of 6 channels, 8 x 7, channels last"),
        ("channels-last", (8, 7, 6), "an image of 6 channels, 8 x 7, channels last"),
        ("channels-first", (8, 7, 6), "an image of 8 channels, 7 x 6, channels first"),
        ("vector", (336,), "a vector of 336 numbers"),
    ],
)
def test_where_the_channels_are_is_told_and_can_be_said(image, shape, read):
    space = Box(0.0, 1.0, (8, 7, 6))
    code = encode(space, KEYS, image)
    raw = np.arange(336, dtype=np.float32).reshape(space.shape)
    want = raw.transpose(2, 0, 1) if "channels last" in read else raw.reshape(shape)
    np.testing.assert_array_equal(code.observe(raw), want)
    assert code.about[0] == f"Box{space.shape} read as {read}"


def test_what_has_no_channels_cannot_have_them_last():
    with pytest.raises(UsageError, match=r"--image channels-last: the observation is Box\(3,\)"):
        encode(FLAT, KEYS, "channels-last")


@pytest.mark.parametrize(
    ("space", "obs", "told"),
    [
        (Box(0.0, 1.0, (3,)), np.zeros(1), r"shape \(1,\), but its space \(3,\)"),
        (Box(0.0, 1.0, (2, 3)), np.zeros((3, 2)), r"shape \(3, 2\)"),
        (Box(0.0, 1.0, (3,)), None, r"shape \(\)"),
        (Box(0.0, 1.0, (2,)), np.array([None, 1.0]), "not numbers"),
        (Box(0, 255, (8, 8), np.uint8), np.full((8, 8), 0.5), "values outside its space"),
        (Box(0, 255, (8, 8), np.uint8), np.full((8, 8), 256), "values outside its space"),
        (Discrete(3, start=1), 0, "outside its space Discrete"),
        (Discrete(3), 1.5, "outside its space"),
        (MultiDiscrete([2, 3]), np.array([1, 3]), "outside its space"),
        (MultiBinary(2), np.array([0, 2]), "outside its space"),
        (Dict({"a": FLAT, "b": KEYS}), {"a": np.zeros(3)}, "lacks 'b'"),
        (Dict({"a": FLAT}), {"a": np.zeros(3), "c": 0}, "has 'c'"),
        (Dict({"a": FLAT}), {"a": np.zeros(2)}, r"observation\['a'\] has shape"),
        (Dict({"a": FLAT}), np.zeros(3), "is a Dict of a|its space is a Dict"),
        (Tuple((KEYS, FLAT)), (0,), "its space is a Tuple of 2"),
        (Tuple((KEYS, FLAT)), (0, np.zeros(4)), r"observation\[1\]"),
    ],
)
def test_an_observation_that_is_not_of_its_space_is_refused(space, obs, told):
    """Nothing is spread, cut off or left out."""
    with pytest.raises(Malformed, match=told):
        encode(space, KEYS).observe(obs)


def test_planes_keep_rows_columns_and_the_order_of_colours():
    raw = np.arange(2 * 8 * 9 * 3, dtype=np.uint8).reshape(2, 8, 9, 3)
    seen = encode(Box(0, 255, raw.shape, np.uint8), KEYS).observe(raw)
    for frame, row, column, color in np.ndindex(raw.shape):
        assert seen[3 * frame + color, row, column] == raw[frame, row, column, color]


def test_a_discrete_observation_is_one_hot():
    assert encode(Discrete(3, start=5), KEYS).observe(6).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "space", [Text(5), Sequence(Discrete(2)), Graph(Discrete(2), None), Box(0.0, 1.0, (9000,))]
)
def test_an_observation_that_no_policy_can_take_is_refused(space):
    with pytest.raises(UsageError, match=r"observation space .*: give Box, Discrete"):
        encode(space, KEYS)


@pytest.mark.parametrize(
    ("space", "act", "want"),
    [
        (Discrete(3), 2, 2),
        (Discrete(3, start=-1), 0, -1),
        (MultiDiscrete([3, 2], start=[1, 5]), np.array([2, 1]), [3, 6]),
        (MultiDiscrete([[3, 2], [2, 2]]), np.array([2, 1, 0, 1]), [[2, 1], [0, 1]]),
        (MultiBinary(2), np.array([1, 0]), [1, 0]),
        (Box(-2.0, 4.0, (2,)), np.array([-1.0, 0.5]), [-2.0, 2.5]),
        (Box(-2.0, 4.0, (1, 2)), np.array([-3.0, 9.0]), [[-2.0, 4.0]]),
        (Box(-np.inf, np.inf, (2,)), np.array([-3.0, 9.0]), [-3.0, 9.0]),
        (Box(np.array([0.0]), np.array([np.inf])), np.array([-3.0]), [0.0]),
    ],
)
def test_actions_become_the_environments_own(space, act, want):
    got = encode(FLAT, space).act(np.asarray(act))
    assert np.asarray(got).tolist() == want
    assert space.contains(got) or isinstance(got, np.integer | int)


@pytest.mark.parametrize("space", [Text(5), Box(0, 5, (2,), np.int32), Box(0.0, 1.0, ()), Dict({})])
def test_an_action_that_no_policy_can_take_is_refused(space):
    with pytest.raises(UsageError, match=r"action space .*: give a Box of floats, Discrete"):
        encode(FLAT, space)


def test_every_action_of_the_policy_is_one_of_the_environment():
    env = gymnasium.make("Pendulum-v1")
    code = encode(env.observation_space, env.action_space)
    assert (code.action_space.low, code.action_space.high) == (-1, 1)
    assert code.act(np.array([0.5], np.float32)) == 1.0
