"""A family that breaks the contract is told so before anything is trained."""

import pytest
import torch
from reference import TENSOR

from metarl.envs import UsageError, probe
from metarl.envs.classic_control.point_navigation import PointNavigation


@pytest.mark.parametrize("family", TENSOR.values(), ids=TENSOR)
def test_our_families_keep_the_contract(family):
    probe(family())


class Flat(PointNavigation):
    def observe(self, state):
        return state.pos[..., 0]


class Double(PointNavigation):
    def observe(self, state):
        return state.pos.double()


class OneReward(PointNavigation):
    def step(self, state, act, task, noise):
        nxt, rew, terminated = super().step(state, act, task, noise)
        return nxt, rew[:, :1], terminated


class FloatEnd(PointNavigation):
    def step(self, state, act, task, noise):
        nxt, rew, terminated = super().step(state, act, task, noise)
        return nxt, rew, terminated.float()


class Broken(PointNavigation):
    def reset(self, task, noise):
        return torch.ones(3) @ torch.ones(4)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (Flat, r"observe\(state\) is \(2, 3\) .* make it \(2, 3, 2\)"),
        (Double, r"observe\(state\) is .*float64.* make it .*float32"),
        (OneReward, r"reward of step is \(2, 1\) .* make it \(2, 3\)"),
        (FloatEnd, r"terminated of step is .*float32.* make it .*bool"),
        (Broken, r"reset and step .* raised RuntimeError: .*see the example"),
    ],
)
def test_a_broken_family_is_told_what_to_make(family, words):
    with pytest.raises(UsageError, match=f"point-navigation: .*{words}"):
        probe(family())
