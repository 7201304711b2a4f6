"""CartPole against Gymnasium's own, and the proof and the anchors in its docstring."""

from itertools import product

import gymnasium
import pytest
import torch
from reference import draw, play
from torch.testing import assert_close

from metarl.envs import make_task, parameters, sample_tasks
from metarl.envs.classic_control.cartpole import CartPole

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
            _, _, end, _, _ = env.step(1 - key if inverted else key)
            got = torch.stack([x[i, j] for x in nxt])
            assert_close(got.double(), torch.from_numpy(env.state), rtol=0, atol=atol)
            assert terminated[i, j].item() == end
            distance = env.state[0] - task.target[i].item()
            want = 1 / (1 + (distance / 0.25) ** 2)
            assert rew[i, j].item() == pytest.approx(want, abs=atol)
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


def test_the_reward_is_one_on_the_target_and_a_half_a_width_away():
    task = make_task(FAMILY, target=0.7)
    rest = FAMILY.reset(task, torch.full((1, 1, 4), 0.5))
    for x, want in ((0.7, 1.0), (0.45, 0.5), (0.95, 0.5), (-0.05, 0.1)):
        state = rest._replace(x=torch.full((1, 1), x))
        _, rew, _ = FAMILY.step(state, torch.zeros(1, 1, dtype=torch.long), task, NO_NOISE)
        assert rew.item() == pytest.approx(want, abs=1e-6)


def told(**wrong):
    """An oracle that takes the task for something else."""
    return lambda state, task: FAMILY.oracle(
        state,
        task._replace(**{k: change(getattr(task, k)) for k, change in wrong.items()}),
    )


def spread(n, split="train"):
    """Tasks with evenly spaced targets, whose means are those over all targets."""
    every = torch.linspace(FAMILY.target.low, FAMILY.target.high, n).unsqueeze(-1)
    return draw(FAMILY, n, split)._replace(target=every)


def test_oracle_brings_training_variants_to_their_targets_and_balances_all():
    task = spread(500)
    obs, _, mask = play(FAMILY, task, FAMILY.oracle)
    assert mask.all()
    distance = (obs[-1, ..., 0] - task.target).abs()
    assert (distance < FAMILY.width).float().mean() > 0.99


def test_anchors_are_those_in_the_docstring():
    for split, actor, want in (
        ("train", FAMILY.oracle, 150),
        ("extrapolate", FAMILY.oracle, 126),
        ("train", None, 7),
    ):
        _, rew, _ = play(FAMILY, spread(500, split), actor)
        assert rew.sum(0).mean().item() == pytest.approx(want, abs=1), split


def test_oracle_falls_with_the_actions_reversed_and_gets_little_at_another_target():
    task = spread(500)
    _, rew, mask = play(FAMILY, task, told(inverted=lambda i: 1 - i))
    assert mask.sum(0).max() < FAMILY.horizon / 4
    assert rew.sum(0).mean() < 5
    _, rew, mask = play(FAMILY, task, told(target=lambda x: -x))
    assert mask.all()
    assert rew.sum(0).mean() < FAMILY.bound()


@pytest.mark.parametrize("split", ["train", "test", "extrapolate"])
def test_neither_what_happens_nor_what_is_seen_depends_on_the_target(split):
    """First half of the proof of the bound: the same actions, any two targets."""
    task = draw(FAMILY, 30, split)
    other = task._replace(target=draw(FAMILY, 30, split, seed=1).target)
    obs, rew, mask = play(FAMILY, task)
    obs_other, rew_other, alive_other = play(FAMILY, other)
    assert (task.target != other.target).all()
    assert_close(obs, obs_other, rtol=0, atol=0)
    assert_close(mask, alive_other, rtol=0, atol=0)
    assert (rew != rew_other)[mask].float().mean() > 0.99


@pytest.mark.parametrize("split", ["train", "test", "extrapolate"])
def test_the_bound_is_the_best_place_to_be_all_the_time(split):
    """Second half: the mean reward over targets, found by a search over every place."""
    gen, n = torch.Generator().manual_seed(0), 20_000
    task = FAMILY.task_type(*(v.double() for v in sample_tasks(FAMILY, n, gen, split)))
    still = FAMILY.task_type(*(v[:1].double() for v in task))
    best = 0.0
    for x in torch.arange(-2.4, 2.41, 0.1, dtype=torch.float64):
        rest = FAMILY.reset(still, torch.full((1, 1, 4), 0.5, dtype=torch.float64))
        state = type(rest)(*(v.expand(n, 1) for v in rest))._replace(x=x.expand(n, 1))
        _, rew, _ = FAMILY.step(state, torch.zeros(n, 1, dtype=torch.long), task, NO_NOISE)
        best = max(best, FAMILY.horizon * rew.mean().item())
    assert FAMILY.bound() == pytest.approx(56.9, abs=0.05)
    assert best == pytest.approx(FAMILY.bound(), rel=0.02)


def even(state, task):
    """Never adapts, remembers nothing, and pushes alike in mirrored states.

    It leans the pole to either side. On the side where pushes act against the lean they hold it;
    on the other they throw it over to the first.
    """
    lean = state.theta + 0.2 * state.theta_dot
    return ((lean + (0.2 * state.x + 0.1 * state.x_dot).clamp(-0.2, 0.2)).abs() > 0.06).long()


@pytest.mark.parametrize("inverted", [0.0, 1.0])
def test_a_policy_that_balances_with_either_action_mapping_stays_below_the_bound(inverted):
    task = spread(500)
    task = task._replace(inverted=torch.full_like(task.inverted, inverted))
    _, rew, mask = play(FAMILY, task, even)
    assert mask[-1].float().mean() > 0.98
    assert 0.8 * FAMILY.bound() < rew.sum(0).mean() < FAMILY.bound()


def test_observations_of_the_hardest_fall_lie_in_their_space():
    """Push the lightest, shortest poles and carts over with the greatest force, and the like."""
    ends = [known.bounds for known in parameters(FAMILY).values() if known.extrapolation]
    rows = torch.tensor([(*row, 0.0, 0.0) for row in product(*ends)])
    task = FAMILY.task_type(*rows.T.unsqueeze(-1))
    noise = torch.tensor(list(product((0.0, 1.0), repeat=4)))
    for patience in range(10):  # lean one way for some steps, then push the other way
        state = FAMILY.reset(task, noise.expand(len(rows), 16, 4))
        mask = torch.ones(len(rows), 16, dtype=torch.bool)
        for t in range(30):
            act = torch.full((len(rows), 16), int(t >= patience))
            state, _, end = FAMILY.step(state, act, task, NO_NOISE)
            for obs in FAMILY.observe(state)[mask & end].numpy():
                assert FAMILY.observation_space.contains(obs), obs
            mask &= ~end


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
    for x in (-0.8, 1.2):
        marked = (FAMILY.frame(lean, make_task(FAMILY, target=x)) == (60, 160, 80)).all(-1)
        assert abs(marked.nonzero()[1].mean() - (240 + 100 * x)) < 1
    longer = FAMILY.frame(lean, make_task(FAMILY, length=0.8))
    assert (longer == (200, 110, 40)).all(-1).sum() > 1.4 * len(pole[0])
