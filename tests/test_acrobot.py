"""Acrobot against Gymnasium's own, and the anchors in its docstring."""

import math
from itertools import permutations

import gymnasium
import numpy as np
import pytest
import torch
from reference import draw, play
from torch.testing import assert_close

from metarl.envs import Acrobot, UsageError, make_task

FAMILY = Acrobot()
PLAIN = Acrobot(shaped=False)
NO_NOISE = torch.zeros(1, 1, 0)
ORDERS = list(permutations((0, 1, 2)))  # ORDERS[keys][key] is Gymnasium's key
NAMES = {
    "length_1": "LINK_LENGTH_1",
    "mass_1": "LINK_MASS_1",
    "mass_2": "LINK_MASS_2",
    "com_1": "LINK_COM_POS_1",
    "com_2": "LINK_COM_POS_2",
}


def gymnasium_acrobot(task):
    env = gymnasium.make("Acrobot-v1").unwrapped
    for ours, name in NAMES.items():
        assert hasattr(env, name)
        setattr(env, name, getattr(task, ours).item())
    torque = task.torque.item()
    env.AVAIL_TORQUE = [-torque, 0.0, torque]
    return env


def tasks(split, dtype=torch.float64):
    """The default task and 15 others."""
    task, defaults = draw(FAMILY, 16, split), make_task(FAMILY)
    return type(task)(
        *(torch.cat((u, x[1:])).to(dtype) for u, x in zip(defaults, task, strict=True))
    )


def scatter(n, b, dtype, gen):
    """Any angles, any speeds."""
    reach = torch.tensor([math.pi, math.pi, 4 * math.pi, 9 * math.pi], dtype=dtype)
    drawn = torch.rand(n, b, 4, dtype=dtype, generator=gen) * 2 - 1
    wild = reach * drawn
    wild[:, ::2, 2:] /= 6  # half of them at the speeds of play
    return type(FAMILY.reset(draw(FAMILY), torch.rand(4, 1, 4)))(*wild.unbind(-1))


def test_the_task_one_gets_by_default_is_gymnasiums():
    env, defaults = gymnasium.make("Acrobot-v1").unwrapped, make_task(FAMILY)
    for ours, name in NAMES.items():
        assert getattr(defaults, ours).item() == getattr(env, name)
    assert [-defaults.torque.item(), 0, defaults.torque.item()] == env.AVAIL_TORQUE
    assert defaults.keys.item() == env.torque_noise_max == FAMILY.torque_noise == 0
    assert (FAMILY.dt, FAMILY.inertia) == (env.dt, env.LINK_MOI)
    assert (FAMILY.max_speed_1, FAMILY.max_speed_2) == (env.MAX_VEL_1, env.MAX_VEL_2)
    assert FAMILY.observation_space == env.observation_space
    assert FAMILY.action_space == env.action_space


@pytest.mark.parametrize("split", ["train", "extrapolate"])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 0.0), (torch.float32, 1e-3)])
def test_every_transition_is_gymnasiums(split, dtype, rtol):
    """From any angles at any speeds, under every order of the keys."""
    n, b, gen = 16, 12, torch.Generator().manual_seed(0)
    task, state = tasks(split, dtype), scatter(n, b, dtype, gen)
    act = torch.randint(3, (n, b), generator=gen)
    nxt, rew, terminated = PLAIN.step(state, act, task, NO_NOISE)
    shaped = FAMILY.step(state, act, task, NO_NOISE)
    assert_close((shaped[0], shaped[2]), (nxt, terminated), rtol=0, atol=0)
    seen = FAMILY.observe(nxt)

    for i in range(n):
        env = gymnasium_acrobot(type(task)(*(x[i] for x in task)))
        order = ORDERS[int(task.keys[i])]
        for j in range(b):
            env.state = np.array([x[i, j].item() for x in state])
            key = int(act[i, j])
            _, want, end, _, _ = env.step(order[key])
            one, two, *speeds = env.state
            exact = [math.cos(one), math.sin(one), math.cos(two), math.sin(two), *speeds]
            exact = torch.tensor(exact, dtype=torch.float64)
            assert_close(seen[i, j].double(), exact, rtol=rtol, atol=max(1e-9, rtol))
            assert (rew[i, j].item(), terminated[i, j].item()) == (want, end)
    assert terminated.any()
    assert not terminated.all()
    for speed, limit in ((nxt.theta_1_dot, 4 * math.pi), (nxt.theta_2_dot, 9 * math.pi)):
        assert_close(speed.abs().max().item(), limit)
    assert max(x.abs().max().item() for x in nxt[:2]) <= math.pi + 1e-6
    assert set(task.keys.flatten().tolist()) == set(range(6))


def energy(state, task):
    """Above hanging at rest, J, from where each link's center of mass is and how it moves."""
    length, m1, m2, com1, com2 = (x.item() for x in task[:5])
    one, two, speed1, speed2 = state
    both, speed = one + two, speed1 + speed2
    height1, height2 = -com1 * math.cos(one), -length * math.cos(one) - com2 * math.cos(both)
    vx = length * speed1 * math.cos(one) + com2 * speed * math.cos(both)
    vy = length * speed1 * math.sin(one) + com2 * speed * math.sin(both)
    moving = m1 * (com1 * speed1) ** 2 + m2 * (vx**2 + vy**2) + speed1**2 + speed**2
    return moving / 2 + 9.8 * (m1 * (height1 + com1) + m2 * (height2 + length + com2))


def test_shaping_adds_the_growth_of_energy_up_to_the_goals():
    """100 for that from hanging at rest to the lowest on which the goal is reached, no more."""
    n, b, gen, capped = 16, 20, torch.Generator().manual_seed(1), 0
    task, state = tasks("extrapolate"), scatter(n, b, torch.float64, gen)
    state = state._replace(theta_1_dot=state[2] / 4, theta_2_dot=state[3] / 4)
    nxt, rew, terminated = FAMILY.step(
        state, torch.randint(3, (n, b), generator=gen), task, NO_NOISE
    )
    turns = [k * math.pi / 90 for k in range(180)]
    for i in range(n):
        own = type(task)(*(x[i] for x in task))
        least = min(
            energy((one, two, 0.0, 0.0), own)
            for one in turns
            for two in turns
            if -math.cos(one) - math.cos(one + two) > 1 - 1e-9
        )
        for j in range(b):
            share = [energy([x[i, j].item() for x in s], own) / least for s in (state, nxt)]
            capped += share[1] > 1
            want = terminated[i, j].item() - 1 + 100 * (min(share[1], 1.0) - min(share[0], 1.0))
            assert_close(rew[i, j].item(), want, rtol=0, atol=1e-9)
            assert share[1] > 1 - 1e-9 or not terminated[i, j]
    assert 0 < capped < n * b


def test_the_motor_alone_changes_the_energy():
    """Without it a free swing keeps its energy, to the error of Runge-Kutta's steps of 0.2 s."""
    task, gen = tasks("train"), torch.Generator().manual_seed(0)
    state = FAMILY.reset(task, torch.rand(16, 1, 4, dtype=torch.float64, generator=gen))
    state = state._replace(theta_1=state.theta_1 + 0.5)
    off = torch.tensor([[ORDERS[int(k)].index(1)] for k in task.keys])
    nxt = FAMILY.step(state, off, task, NO_NOISE)[0]
    for i in range(16):
        own = type(task)(*(x[i] for x in task))
        before, after = (energy([x[i, 0].item() for x in s], own) for s in (state, nxt))
        assert_close(after, before, rtol=1e-3, atol=0)


def test_torque_noise_is_gymnasiums():
    family = Acrobot(torque_noise=0.4)
    assert (FAMILY.step_noise, family.step_noise) == (0, 1)
    task, gen = tasks("train"), torch.Generator().manual_seed(0)
    state = scatter(16, 2, torch.float64, gen)
    act, noise = torch.randint(3, (16, 2), generator=gen), torch.rand(16, 2, 1, generator=gen)
    seen = family.observe(family.step(state, act, task, noise.double())[0])
    for i in range(16):
        env = gymnasium_acrobot(type(task)(*(x[i] for x in task)))
        env.torque_noise_max = 0.4
        for j in range(2):
            env.np_random = Share(noise[i, j].item())
            env.state = np.array([x[i, j].item() for x in state])
            key = int(act[i, j])
            env.step(ORDERS[int(task.keys[i])][key])
            assert_close(seen[i, j, 4:], torch.from_numpy(env.state[2:]), rtol=0, atol=1e-9)


class Share:
    """A generator whose every draw is the same share of the way from low to high."""

    def __init__(self, share):
        self.share = share

    def uniform(self, low, high, size=None):
        return np.full(size or (), low + self.share * (high - low))


def test_episodes_start_as_gymnasiums():
    env = gymnasium.make("Acrobot-v1").unwrapped
    for share in (0.0, 0.3, 1.0):
        env.reset(seed=0)
        env.np_random = Share(share)
        env.reset()
        state = FAMILY.reset(make_task(FAMILY), torch.full((1, 1, 4), share))
        assert_close(torch.cat(state).flatten(), torch.from_numpy(env.state))
    apart = FAMILY.reset(make_task(FAMILY), torch.tensor([[[0.0, 0.25, 0.5, 1.0]]]))
    assert_close(torch.cat(apart).flatten(), torch.tensor([-0.1, -0.05, 0.0, 0.1]))


@pytest.mark.parametrize("noise", [-0.1, math.inf, math.nan])
def test_impossible_noise_is_a_users_error(noise):
    with pytest.raises(
        UsageError, match=r"torque_noise=.* is out of bounds: give a value in \[0, "
    ):
        Acrobot(torque_noise=noise)


def test_oracle_takes_the_key_whose_plan_reaches_the_goal_first():
    """Each key, then full torque with the elbow's motion, played through by the family's step."""
    task, gen = draw(FAMILY, 40), torch.Generator().manual_seed(0)
    state = scatter(40, 15, torch.float32, gen)
    state = state._replace(theta_1_dot=state[2] / 3, theta_2_dot=state[3] / 6)
    reached = []
    for key in range(3):
        plan, act, first = state, torch.full((40, 15), key), torch.full((40, 15), 99)
        for k in range(FAMILY.lookahead):
            plan, _, end = FAMILY.step(plan, act, task, NO_NOISE)
            first = torch.where(end & (first > k), k, first)
            wanted = [[2 * int(x >= 0) for x in row] for row in plan.theta_2_dot.tolist()]
            act = torch.tensor(
                [
                    [ORDERS[int(k)].index(w) for w in row]
                    for k, row in zip(task.keys, wanted, strict=True)
                ]
            )
        reached.append(first)
    first, chosen = torch.stack(reached), FAMILY.oracle(state, task)
    soonest, taken = first.min(0).values, first.gather(0, chosen.unsqueeze(0))[0]
    assert (taken == soonest).all()
    assert ((soonest < 99) & (soonest < first.max(0).values)).sum() > 20, "the keys are all alike"


def test_anchors_are_those_of_the_docstring():
    """Of oracles told the keys right and the wrong way round, and of chance, in both rewards."""
    task = draw(FAMILY, 100, "test", seed=1)
    both = type(task)(*(x.repeat(2, 1) for x in task))
    told = both._replace(keys=torch.cat((task.keys, 5 - task.keys)))  # forwards and back exchanged
    _, rew, mask = play(FAMILY, both, lambda state, _: FAMILY.oracle(state, told))
    steps = mask.sum(0)
    plain = (steps < FAMILY.horizon).float() - steps  # the step that reaches the goal is free
    for x, want in ((rew.sum(0), (35.1, -94.8)), (plain, (-64.7, -100.0))):
        assert_close([half.mean().item() for half in x.chunk(2)], list(want), rtol=0, atol=2.0)
    assert (steps[:100] < FAMILY.horizon).float().mean() > 0.93
    assert_close(play(FAMILY, task)[1].sum(0).mean().item(), -86.6, rtol=0, atol=2.0)
    assert_close(play(PLAIN, task)[1].sum(0).mean().item(), -100.0, rtol=0, atol=0.5)


def test_frame_shows_both_links_where_they_point():
    task = make_task(FAMILY)
    state = FAMILY.reset(task, torch.full((1, 1, 4), 0.5))

    def links(*angles):
        angles = [torch.full((1, 1), a * math.pi / 2) for a in angles]
        picture = FAMILY.frame(state._replace(theta_1=angles[0], theta_2=angles[1]), task)
        assert picture.shape == (340, 340, 3)
        colors = ((40, 90, 200), (225, 120, 50))
        return [[x.mean() for x in (picture == c).all(-1).nonzero()] for c in colors]

    # (row, column) of each link's middle: 75 pixels a metre from the shoulder at (170, 170).
    for angles, want in (
        ((0, 0), ((207, 170), (282, 170))),
        ((1, 0), ((170, 207), (170, 282))),
        ((1, 1), ((170, 207), (132, 245))),
    ):
        for got, place in zip(links(*angles), want, strict=True):
            assert max(abs(g - p) for g, p in zip(got, place, strict=True)) < 8
    heavy = FAMILY.frame(state, make_task(FAMILY, mass_2=1.3))
    thin = FAMILY.frame(state, make_task(FAMILY, mass_2=0.7))
    orange = [(p == (225, 120, 50)).all(-1).sum() for p in (heavy, thin)]
    assert orange[0] > 1.5 * orange[1]
