"""Point navigation against its definition, and the anchors in its docstring."""

import math

import pytest
import torch
from reference import play, random_acts, walk_by_definition
from torch.testing import assert_close

from metarl.envs import make_task
from metarl.envs.classic_control.point_navigation import PointNavigation

FAMILY = PointNavigation()


def goals(side):
    """The midpoints of side x side squares that tile the training range."""
    axis = (torch.arange(side) + 0.5) / side - 0.5
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    return FAMILY.task_type(x.reshape(-1, 1), y.reshape(-1, 1))


def test_every_step_is_that_of_the_definition():
    """Walks that reach the goal after some steps, at random, or never; half of them overshoot."""
    task = FAMILY.task_type(*(x.double() for x in goals(5)))
    goal = torch.stack(task, dim=-1)
    acts = random_acts(FAMILY, (FAMILY.horizon, 25, 4)).double() * 2  # half beyond the clip
    acts[:7, :, 1] = goal[:, 0] / 7  # there after 7 steps
    acts[:, :, 2] = goal[:, 0] / 50 + acts[:, :, 2] / 50  # close by, now and then
    steps = iter(acts)
    obs, rew, mask = play(FAMILY, task, lambda *_: next(steps), episodes=4)

    lengths = set()
    for n in range(25):
        for b in range(4):
            places, rewards, length = walk_by_definition(
                goal[n, 0].tolist(), acts[:, n, b].tolist()
            )
            lengths.add(length)
            assert int(mask[:, n, b].sum()) == length
            assert_close(obs[1 : length + 1, n, b], torch.tensor(places).double())
            assert_close(rew[:length, n, b], torch.tensor(rewards).double())
    assert {7, FAMILY.horizon} < lengths, "some end early, some never, or the test is blind"


@pytest.mark.parametrize(
    ("x", "y", "ends"),
    [(0.009, -0.009, True), (0.009, 0.011, False), (-0.011, 0.009, False), (0.0, 0.0, True)],
)
def test_the_end_is_within_a_centimetre_in_each_coordinate(x, y, ends):
    task = make_task(FAMILY, goal_x=0.05, goal_y=0.02)
    act = torch.tensor([[[0.05 + x, 0.02 + y]]])
    state = FAMILY.reset(task, torch.zeros(1, 1, 0))
    _, rew, terminated = FAMILY.step(state, act, task, torch.zeros(1, 1, 0))
    assert terminated.item() == ends
    assert_close(rew.item(), -math.hypot(x, y), rtol=1e-5, atol=1e-6)


def test_observations_of_the_longest_walk_lie_in_their_space():
    task = make_task(FAMILY, goal_x=-0.5)
    obs, _, _ = play(FAMILY, task, lambda *_: torch.full((1, 1, 2), 0.1), episodes=1)
    assert obs[-1].min() > 9.9
    assert FAMILY.observation_space.contains(obs[-1, 0, 0].numpy())


def test_standing_still_costs_the_mean_distance():
    """100 steps x the mean distance of a square's center to its points, in closed form."""
    _, rew, _ = play(FAMILY, goals(100), lambda *_: torch.zeros(10_000, 1, 2), episodes=1)
    mean = (math.sqrt(2) + math.asinh(1)) / 6
    assert_close(rew.sum(0).mean().item(), -100 * mean, rtol=0, atol=0.01)
    assert_close(-100 * mean, -38.26, rtol=0, atol=0.005)


def test_oracle_walks_to_the_goal_as_fast_as_the_clip_allows():
    task = goals(100)
    _, rew, mask = play(FAMILY, task, FAMILY.oracle, episodes=1)
    far = torch.maximum(task.goal_x.abs(), task.goal_y.abs())
    near_enough = far - FAMILY.reach
    assert_close(mask.sum(0), (near_enough / FAMILY.speed_max).ceil().long().clamp(min=1))
    assert_close(rew.sum(0).mean().item(), -0.50, rtol=0, atol=0.01)


def test_oracle_return_is_that_of_the_definition():
    task = goals(7)
    _, rew, _ = play(FAMILY, task, FAMILY.oracle, episodes=1)
    for n in range(49):
        goal = (task.goal_x[n].item(), task.goal_y[n].item())
        steps = [max(0.0, abs(g) - 0.1 * k) for k in range(9) for g in goal]  # left to go, x and y
        left = [math.hypot(*steps[2 * k : 2 * k + 2]) for k in range(1, 9)]
        ends = next(k for k in range(8) if max(steps[2 * k + 2 : 2 * k + 4]) < 0.01)
        assert_close(rew[:, n].sum().item(), -sum(left[: ends + 1]), rtol=1e-5, atol=1e-5)


def test_frame_shows_agent_and_goal_where_they_are():
    task = make_task(FAMILY, goal_x=-0.5, goal_y=0.25)
    state = type(FAMILY.reset(task, torch.zeros(1, 1, 0)))(torch.tensor([[[0.5, -0.75]]]))
    picture = FAMILY.frame(state, task)
    assert picture.shape == (240, 240, 3)
    assert picture[90, 60].tolist() == [70, 160, 90]  # 120 pixels a metre, up is up
    assert picture[210, 180].tolist() == [40, 90, 200]
    assert picture[120, 120].tolist() == [170, 170, 170]
