"""Pendulum against Gymnasium's own, and the anchors in its docstring."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from reference import draw, play
from torch.testing import assert_close

from metarl.envs import make_task
from metarl.envs.classic_control.pendulum import Pendulum

FAMILY = Pendulum()
NO_NOISE = torch.zeros(1, 1, 0)


def gymnasium_pendulum(task):
    env = gymnasium.make("Pendulum-v1", g=task.g.item()).unwrapped
    for name in ("m", "l"):
        assert hasattr(env, name)
        setattr(env, name, getattr(task, name).item())
    return env


def tasks(split, dtype=torch.float64):
    """The default task and 15 others."""
    task, defaults = draw(FAMILY, 16, split), make_task(FAMILY)
    return type(task)(
        *(torch.cat((u, x[1:])).to(dtype) for u, x in zip(defaults, task, strict=True))
    )


def test_the_task_one_gets_by_default_is_gymnasiums():
    env = gymnasium.make("Pendulum-v1").unwrapped
    assert [x.item() for x in make_task(FAMILY)] == [env.g, env.m, env.l, 0.0]
    assert (FAMILY.dt, FAMILY.max_torque, FAMILY.max_speed) == (0.05, 2.0, 8.0)
    assert FAMILY.observation_space == env.observation_space
    assert FAMILY.action_space == env.action_space


@pytest.mark.parametrize("split", ["train", "extrapolate"])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_every_transition_is_gymnasiums(split, dtype, atol):
    """From any angle, wound up or not, to the limits of speed and torque, in both senses."""
    n, b, gen = 16, 12, torch.Generator().manual_seed(0)
    task = tasks(split, dtype)
    drawn = torch.rand(3, n, b, dtype=dtype, generator=gen) * 2 - 1
    state = type(FAMILY.reset(task, torch.rand(n, b, 2)))(12 * drawn[0], 8 * drawn[1])
    act = (3 * drawn[2]).unsqueeze(-1)
    nxt, rew, terminated = FAMILY.step(state, act, task, NO_NOISE)
    seen = FAMILY.observe(nxt)

    for i in range(n):
        env = gymnasium_pendulum(type(task)(*(x[i] for x in task)))
        sense = -1 if task.inverted[i].item() == 1 else 1
        for j in range(b):
            env.state = np.array([x[i, j].item() for x in state])
            obs, want, _, _, _ = env.step(np.array([sense * act[i, j, 0].item()]))
            got = torch.stack([x[i, j] for x in nxt]).double()
            assert_close(got, torch.from_numpy(env.state), rtol=0, atol=atol)
            assert_close(rew[i, j].item(), float(want), rtol=0, atol=atol)
            assert_close(seen[i, j].float(), torch.from_numpy(obs), rtol=0, atol=1e-5)
    assert not terminated.any()
    assert {8.0, -8.0} <= set(nxt.theta_dot.flatten().tolist()), "no speed reaches the limit"
    assert set(task.inverted.flatten().tolist()) == {0.0, 1.0}


def test_episodes_are_gymnasiums_from_first_to_last():
    """No error gathers over an episode of 100 steps in double precision."""
    task, gen = tasks("train"), torch.Generator().manual_seed(1)
    state = FAMILY.reset(task, torch.rand(16, 1, 2, dtype=torch.float64, generator=gen))
    envs = [gymnasium_pendulum(type(task)(*(x[i] for x in task))) for i in range(16)]
    for i, env in enumerate(envs):
        env.state = np.array([x[i, 0].item() for x in state])
    for _ in range(FAMILY.horizon):
        act = 4 * torch.rand(16, 1, 1, dtype=torch.float64, generator=gen) - 2
        state, rew, _ = FAMILY.step(state, act, task, NO_NOISE)
        for i, env in enumerate(envs):
            sense = 1 - 2 * task.inverted[i].item()
            _, want, _, _, _ = env.step(np.array([sense * act[i, 0, 0].item()]))
            assert_close(rew[i, 0].item(), float(want), rtol=0, atol=1e-9)


def test_episodes_start_as_gymnasiums():
    """At the ends of the ranges that Gymnasium draws from."""
    env = gymnasium.make("Pendulum-v1").unwrapped
    env.reset(seed=0)
    for share in (0.0, 0.3, 1.0):
        env.np_random = Share(share)
        env.reset()
        state = FAMILY.reset(make_task(FAMILY), torch.full((1, 1, 2), share, dtype=torch.float64))
        assert_close(torch.cat(state).flatten(), torch.tensor(env.state))
    apart = FAMILY.reset(make_task(FAMILY), torch.tensor([[[0.5, 1.0]]]))
    assert_close(apart, type(apart)(torch.zeros(1, 1), torch.ones(1, 1)))


class Share:
    """A generator whose every draw is the same share of the way from low to high."""

    def __init__(self, share):
        self.share = share

    def uniform(self, low, high, size=None):
        return np.broadcast_to(low + self.share * (np.asarray(high) - low), size or np.shape(low))


def test_an_episode_lasts_five_seconds():
    assert_close(FAMILY.horizon * FAMILY.dt, 5.0)


def test_oracle_brings_every_training_variant_upright_and_holds_it():
    """In half a second less than it has, also from hanging at rest."""
    task = draw(FAMILY, 400)
    obs, rew, _ = play(FAMILY, task, FAMILY.oracle, episodes=5)
    assert (obs[90:, ..., 0] > 0.95).all()
    assert rew[90:].min() > -0.6
    assert (obs[60, ..., 0] > 0.95).float().mean() > 0.95
    rest = torch.tensor([1.0, 0.5]).expand(400, 1, 2)
    state = FAMILY.reset(task, rest)
    for _ in range(FAMILY.horizon):
        state, _, _ = FAMILY.step(state, FAMILY.oracle(state, task), task, NO_NOISE)
    assert (state.theta.cos() > 0.95).all()


def test_anchors_are_those_of_the_docstring():
    def wrong(state, task):
        return FAMILY.oracle(state, task._replace(inverted=1 - task.inverted))

    def nothing(state, task):
        return torch.zeros(*state.theta.shape, 1)

    task = draw(FAMILY, 400, "test", seed=1)
    got = [
        play(FAMILY, task, actor, episodes=5)[1].sum(0).mean().item()
        for actor in (FAMILY.oracle, wrong, nothing, None)
    ]
    assert_close(got, [-130.5, -861.1, -623.6, -625.8], rtol=0, atol=1.0)


def test_frame_shows_where_the_rod_points_and_how_long_and_heavy_it_is():
    task = make_task(FAMILY, l=1.0, m=1.0)
    state = FAMILY.reset(task, torch.full((1, 1, 2), 0.5))

    def rod(state, task):
        picture = FAMILY.frame(state, task)
        assert picture.shape == (320, 320, 3)
        return (picture == (200, 80, 70)).all(-1).nonzero()

    up = rod(state, task)
    assert abs(up[1].mean() - 160) < 1
    assert abs(up[0].min() - (160 - 110 - 10)) < 3
    left = rod(state._replace(theta=torch.full((1, 1), math.pi / 2)), task)
    assert abs(left[0].mean() - 160) < 1
    assert left[1].max() < 160  # counter-clockwise is positive
    assert abs(rod(state, make_task(FAMILY, l=0.7))[0].min() - (160 - 77 - 10)) < 3
    assert len(rod(state, make_task(FAMILY, m=0.6))[0]) < 0.85 * len(up[0])
