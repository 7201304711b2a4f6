"""MountainCar against Gymnasium's own, and the anchors in its docstring."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from reference import draw, play
from torch.testing import assert_close

from metarl.envs import make_task
from metarl.envs.classic_control.mountain_car import MountainCar

FAMILY = MountainCar()
PLAIN = MountainCar(shaped=False, speed_unit=1.0)
NO_NOISE = torch.zeros(1, 1, 0)


def gymnasium_car(task):
    env = gymnasium.make("MountainCar-v0").unwrapped
    for name in ("gravity", "force"):
        assert hasattr(env, name)
        setattr(env, name, getattr(task, name).item())
    return env


def tasks(split="train", dtype=torch.float64):
    """The default task and 15 others."""
    task, defaults = draw(FAMILY, 16, split), make_task(FAMILY)
    return type(task)(
        *(torch.cat((u, x[1:])).to(dtype) for u, x in zip(defaults, task, strict=True))
    )


def energy(position, velocity, gravity):
    """Kinetic and potential; the force -gravity cos(3 x) is the slope of the latter."""
    return velocity**2 / 2 + gravity * math.sin(3 * position) / 3


def test_the_task_one_gets_by_default_is_gymnasiums():
    env = gymnasium.make("MountainCar-v0").unwrapped
    assert_close([x.item() for x in make_task(FAMILY)], [env.gravity, env.force, 0.0])
    assert (FAMILY.low, FAMILY.high) == (env.min_position, env.max_position)
    assert (FAMILY.max_speed, FAMILY.goal) == (env.max_speed, env.goal_position)
    assert FAMILY.action_space == env.action_space
    assert PLAIN.observation_space == env.observation_space
    assert FAMILY.horizon == gymnasium.spec("MountainCar-v0").max_episode_steps


@pytest.mark.parametrize("split", ["train", "extrapolate"])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_every_transition_is_gymnasiums(split, dtype, atol):
    """From anywhere, walls and goal among it, at any speed, in both senses of the keys."""
    n, b, gen = 16, 60, torch.Generator().manual_seed(0)
    task = tasks(split, dtype)
    drawn = torch.rand(2, n, b, dtype=dtype, generator=gen)
    state = type(FAMILY.reset(task, torch.rand(n, b, 1)))(
        1.8 * drawn[0] - 1.2, 0.14 * drawn[1] - 0.07
    )
    act = torch.randint(3, (n, b), generator=gen)
    nxt, rew, terminated = PLAIN.step(state, act, task, NO_NOISE)
    shaped = FAMILY.step(state, act, task, NO_NOISE)
    assert_close((shaped[0], shaped[2]), (nxt, terminated), rtol=0, atol=0)
    seen, fast = PLAIN.observe(nxt), FAMILY.observe(nxt)

    for i in range(n):
        env = gymnasium_car(type(task)(*(x[i] for x in task)))
        inverted = task.inverted[i].item() == 1
        for j in range(b):
            env.state = np.array([x[i, j].item() for x in state])
            key = int(act[i, j])
            obs, want, end, _, _ = env.step(2 - key if inverted else key)
            got = [x[i, j].double().item() for x in nxt]
            assert_close(got, [float(x) for x in env.state], rtol=0, atol=atol)
            assert (rew[i, j].item(), terminated[i, j].item()) == (want, end)
            assert_close(seen[i, j].float(), torch.from_numpy(obs), rtol=0, atol=atol + 1e-6)
            assert_close(fast[i, j, 1].item(), float(obs[1]) / 0.07, rtol=0, atol=20 * atol + 1e-5)
    assert terminated.any()
    assert not terminated.all()
    assert (nxt.velocity[nxt.position == PLAIN.low] == 0).any(), "no car hits the wall"
    assert (nxt.position == PLAIN.high).any()


def test_shaping_adds_the_growth_of_energy_up_to_the_goals():
    """100 for that from rest in the valley to rest on the goal's height; more pays nothing."""
    n, b, gen, capped = 16, 40, torch.Generator().manual_seed(1), 0
    task = tasks()
    drawn = torch.rand(2, n, b, dtype=torch.float64, generator=gen)
    state = type(FAMILY.reset(task, torch.rand(n, b, 1)))(
        1.8 * drawn[0] - 1.2, 0.14 * drawn[1] - 0.07
    )
    nxt, rew, _ = FAMILY.step(state, torch.randint(3, (n, b), generator=gen), task, NO_NOISE)
    for i in range(n):
        gravity = task.gravity[i].item()
        bottom, top = (energy(x, 0.0, gravity) for x in (-math.pi / 6, 0.5))
        for j in range(b):
            share = [
                (energy(s.position[i, j].item(), s.velocity[i, j].item(), gravity) - bottom)
                / (top - bottom)
                for s in (state, nxt)
            ]
            capped += share[1] > 1
            want = -1 + 100 * (min(share[1], 1.0) - min(share[0], 1.0))
            assert_close(rew[i, j].item(), want, rtol=0, atol=1e-9)
    assert 0 < capped < n * b


def test_shaped_or_not_the_sooner_of_two_episodes_that_reach_the_goal_is_the_better():
    """The two returns of such an episode differ by what its start alone decides."""
    task, first = draw(FAMILY, 30), {}
    for family in (FAMILY, PLAIN):
        _, rew, mask = play(family, task, along)
        first[family.shaped] = rew.sum(0), mask
    (shaped, mask), (plain, _) = first[True], first[False]
    reached = mask.sum(0) < FAMILY.horizon
    assert reached.float().mean() > 0.9
    start = FAMILY.reset(task, play_noise(task))
    lacks = torch.tensor(
        [
            [100 * (math.sin(1.5) - math.sin(3 * x)) / (math.sin(1.5) + 1) for x in row]
            for row in start.position.tolist()
        ]
    )
    assert_close((shaped - plain)[reached], lacks[reached], rtol=0, atol=1e-2)


def play_noise(task):
    gen = torch.Generator().manual_seed(0)
    return torch.rand(len(task[0]), 3, FAMILY.reset_noise, generator=gen)


def test_episodes_start_between_those_limits_that_gymnasium_draws_from():
    env = gymnasium.make("MountainCar-v0").unwrapped
    for share in (0.0, 0.3, 1.0):
        env.reset(seed=0)
        env.np_random = Share(share)
        env.reset()
        noise = torch.full((1, 1, 1), share, dtype=torch.float64)
        state = FAMILY.reset(make_task(FAMILY), noise)
        assert_close([x.item() for x in state], env.state.tolist())


class Share:
    """A generator whose every draw is the same share of the way from low to high."""

    def __init__(self, share):
        self.share = share

    def uniform(self, low, high):
        return low + self.share * (high - low)


@pytest.mark.parametrize(("velocity", "ends"), [(0.02, True), (-0.02, False)])
def test_only_a_car_that_moves_right_ends_at_the_goal(velocity, ends):
    task = make_task(FAMILY)
    state = FAMILY.reset(task, torch.zeros(1, 1, 1))
    state = state._replace(position=torch.tensor([[0.55]]), velocity=torch.tensor([[velocity]]))
    nxt, _, terminated = FAMILY.step(state, torch.ones(1, 1, dtype=torch.long), task, NO_NOISE)
    assert nxt.position.item() > 0.5
    assert terminated.item() == ends


def along(state, task):
    """Full force along the motion, the simplest thing that works."""
    return 1 + torch.where(state.velocity < 0, -1, 1) * (1 - 2 * task.inverted).long()


def test_oracle_reaches_the_goal_in_every_variant_sooner_than_full_force_along_the_motion():
    task = draw(FAMILY, 200)
    oracle, simple = (play(FAMILY, task, actor)[2].sum(0) for actor in (FAMILY.oracle, along))
    assert (oracle < FAMILY.horizon).all()
    assert (oracle <= simple).all()
    assert simple.float().mean() - oracle.float().mean() > 20


def test_anchors_are_those_of_the_docstring():
    """Of oracles told the right and the wrong sense, and of chance; Gymnasium's reward is -1."""
    task = draw(FAMILY, 200, "test", seed=1)
    both = type(task)(*(x.repeat(2, 1) for x in task))
    told = both._replace(inverted=torch.cat((task.inverted, 1 - task.inverted)))
    _, rew, mask = play(FAMILY, both, lambda state, _: FAMILY.oracle(state, told), episodes=2)
    for x, want in ((rew, (9.1, -194.9)), (-mask.float(), (-90.0, -200.0))):
        got = [half.mean().item() for half in x.sum(0).chunk(2)]
        assert_close(got, list(want), rtol=0, atol=2.5)
    _, rew, mask = play(FAMILY, task)
    assert_close(rew.sum(0).mean().item(), -194.7, rtol=0, atol=1.0)
    assert mask.all()


def test_frame_shows_the_car_where_it_is_on_the_hill():
    task = make_task(FAMILY)
    state = FAMILY.reset(task, torch.full((1, 1, 1), 0.5))
    places = []
    for x in (-1.0, -0.5, 0.4):
        picture = FAMILY.frame(state._replace(position=torch.full((1, 1), x)), task)
        assert picture.shape == (290, 400, 3)
        car = (picture == (40, 90, 200)).all(-1).nonzero()
        wheels = (picture == (50, 50, 55)).all(-1).nonzero()
        assert all(abs(w.mean() - c.mean()) < 15 for w, c in zip(wheels, car, strict=True))
        places.append([axis.mean() for axis in reversed(car)])
    for (x, _), at in zip(places, (-1, -0.5, 0.4), strict=True):
        assert abs(x - 400 / 1.8 * (at + 1.2)) < 18
    assert places[0][0] < places[1][0] - 80 < places[2][0] - 260
    assert places[2][1] < places[0][1] < places[1][1]  # high on the right, low in the middle
