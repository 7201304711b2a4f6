"""CartPole against Gymnasium's own, and the anchors in its docstring."""

from itertools import product

import gymnasium
import pytest
import torch
from reference import draw, play
from torch.testing import assert_close

from envs import make_task, parameters
from envs.cartpole import CartPole

FAMILY = CartPole()
NO_NOISE = torch.zeros(1, 1, 0)


def gymnasium_cartpole(task):
    """Gymnasium's with the physics of a task; what it derives when it is made, derived anew."""
    env = gymnasium.make("CartPole-v1").unwrapped
    for name in ("gravity", "masscart", "masspole", "length", "force_mag"):
        assert hasattr(env, name)
        setattr(env, name, getattr(task, name).item())
    env.total_mass = env.masspole + env.masscart
    env.polemass_length = env.masspole * env.length
    return env


@pytest.mark.parametrize("split", ["train", "extrapolate"])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_every_transition_is_gymnasiums(split, dtype, atol):
    """From states inside and outside the limits, for both senses of the keys."""
    n, b, gen = 16, 12, torch.Generator().manual_seed(0)
    task = FAMILY.task_type(*(x.to(dtype) for x in draw(FAMILY, n, split)))
    reach = torch.tensor([2.6, 3.0, 0.25, 3.0], dtype=dtype).view(4, 1, 1)
    drawn = torch.rand(4, n, b, dtype=dtype, generator=gen)
    state = type(FAMILY.reset(task, torch.rand(n, b, 4)))(*(reach * (2 * drawn - 1)))
    act = torch.randint(2, (n, b), generator=gen)
    nxt, rew, terminated = FAMILY.step(state, act, task, NO_NOISE)

    for i in range(n):
        env = gymnasium_cartpole(FAMILY.task_type(*(x[i] for x in task)))
        inverted = task.inverted[i].item() == 1
        for j in range(b):
            env.state, env.steps_beyond_terminated = [x[i, j].item() for x in state], None
            key = int(act[i, j])
            _, want, end, _, _ = env.step(1 - key if inverted else key)
            got = torch.stack([x[i, j] for x in nxt])
            assert_close(got.double(), torch.from_numpy(env.state), rtol=0, atol=atol)
            assert (rew[i, j].item(), terminated[i, j].item()) == (want, end)
    assert terminated.any()
    assert not terminated.all()
    assert set(task.inverted.flatten().tolist()) == {0.0, 1.0}


def test_limits_are_gymnasiums():
    env = gymnasium.make("CartPole-v1").unwrapped
    assert FAMILY.x_max == env.x_threshold
    assert FAMILY.theta_max == env.theta_threshold_radians
    assert FAMILY.dt == env.tau
    assert FAMILY.action_space == env.action_space


def test_an_episode_lasts_four_seconds():
    assert_close(FAMILY.horizon * FAMILY.dt, 4.0)


def test_episodes_start_within_five_hundredths_of_upright():
    task, noise = draw(FAMILY, 1), torch.tensor([0.0, 0.5, 0.75, 1.0]).view(1, 1, 4)
    want = torch.tensor([-0.05, 0.0, 0.025, 0.05]).view(1, 1, 4)
    assert_close(FAMILY.observe(FAMILY.reset(task, noise)), want)


@pytest.mark.parametrize("name", ["x", "theta"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_end_is_past_the_limit_on_either_side(name, sign):
    task, limit = make_task(FAMILY), {"x": FAMILY.x_max, "theta": FAMILY.theta_max}[name]
    rest = FAMILY.reset(task, torch.full((1, 1, 4), 0.5))
    for share, ends in ((0.999, False), (1.001, True)):
        state = rest._replace(**{name: torch.full((1, 1), sign * share * limit)})
        _, _, terminated = FAMILY.step(state, torch.zeros(1, 1, dtype=torch.long), task, NO_NOISE)
        assert terminated.item() == ends


def test_oracle_balances_every_training_variant():
    _, rew, _ = play(FAMILY, draw(FAMILY, 200), FAMILY.oracle)
    assert_close(rew.sum(0), torch.full((200, 3), float(FAMILY.horizon)))


def test_oracle_that_takes_the_keys_the_wrong_way_round_falls_at_once():
    """So no policy can do well in both senses of the keys unless it adapts."""

    def wrong(state, task):
        return FAMILY.oracle(state, task._replace(inverted=1 - task.inverted))

    _, rew, _ = play(FAMILY, draw(FAMILY, 200), wrong)
    assert rew.sum(0).max() < 30
    assert 5 < rew.sum(0).mean() < 15


def test_observations_of_the_hardest_fall_lie_in_their_space():
    """Push the lightest, shortest poles and carts over with the greatest force, and the like."""
    ends = [known.bounds for known in parameters(FAMILY).values() if known.beyond]
    rows = torch.tensor([(*row, 0.0) for row in product(*ends)])
    task = FAMILY.task_type(*rows.T.unsqueeze(-1))
    noise = torch.tensor(list(product((0.0, 1.0), repeat=4)))
    for patience in range(10):  # lean one way for some steps, then push the other way
        state = FAMILY.reset(task, noise.expand(len(rows), 16, 4))
        alive = torch.ones(len(rows), 16, dtype=torch.bool)
        for t in range(30):
            act = torch.full((len(rows), 16), int(t >= patience))
            state, _, end = FAMILY.step(state, act, task, NO_NOISE)
            for obs in FAMILY.observe(state)[alive & end].numpy():
                assert FAMILY.observation_space.contains(obs), obs
            alive &= ~end


def test_frame_shows_the_cart_and_which_way_the_pole_leans():
    task = make_task(FAMILY, length=0.5)
    state = FAMILY.reset(task, torch.full((1, 1, 4), 0.5))
    lean = state._replace(x=torch.tensor([[1.0]]), theta=torch.tensor([[0.15]]))
    picture = FAMILY.frame(lean, task)
    assert picture.shape == (240, 480, 3)
    cart = (picture == (40, 90, 200)).all(-1).nonzero()
    pole = (picture == (200, 110, 40)).all(-1).nonzero()
    assert abs(cart[1].mean() - 340) < 1  # 100 pixels a metre from the middle
    assert pole[1].mean() > 345
    assert abs(pole[0].min() - 81) < 5  # a pole of 2 x 0.5 m, its foot at 180
    longer = FAMILY.frame(lean, make_task(FAMILY, length=0.8))
    assert (longer == (200, 110, 40)).all(-1).sum() > 1.4 * len(pole[0])
