"""Each family as a Gymnasium environment: checkers of two libraries, limits, seeds, pictures."""

import re
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.utils.seeding import np_random
from reference import TENSOR
from stable_baselines3.common.env_checker import check_env as sb3_check

from metarl.envs import GymView, UsageError, gymnasium_id, make_task

EVERY = [cls() for cls in TENSOR.values()]
# Warnings that follow from the definitions: speeds have no limit, a velocity is in metres a step,
# planes are numbers and not photographs.
PLANES = {
    "`dtype` is (float32)",
    "upper and lower bounds are not in [0, 255]",
    "minimal resolution for an image is 36x36",
}
EXPECTED = {
    ("cartpole", gymnasium_check): {"minimum value is -infinity", "maximum value is infinity"},
    ("pendulum", gymnasium_check): {"symmetric and normalized space"},
    ("pendulum", sb3_check): {"symmetric and normalized Box action space"},
    ("point-navigation", sb3_check): {"symmetric and normalized Box action space"},
    ("snake", sb3_check): PLANES,
    ("breakout", sb3_check): PLANES,
}
IDLE = {"acrobot": 1, "mountain-car": 1}  # the key that does nothing, where the oracle would end it
ENDS_ITSELF = {"word-guess"}  # by its sixth miss, long before the horizon


def ids(family):
    return getattr(family, "name", None)


def make(family, **values):
    return gymnasium.make(gymnasium_id(family), render_mode="rgb_array", **values)


def episode(env, seed, acts):
    """All that is seen until the end: observations, rewards and the two flags."""
    trace = [env.reset(seed=seed)[0]]
    for act in acts:
        obs, rew, terminated, truncated, _ = env.step(act)
        trace.append((obs, rew, terminated, truncated))
        if terminated or truncated:
            break
    return trace


def some_acts(family, n):
    space = family.action_space
    space.seed(0)
    return [space.sample() for _ in range(n)]


@pytest.mark.parametrize("family", EVERY, ids=ids)
@pytest.mark.parametrize("check", [gymnasium_check, sb3_check], ids=["gymnasium", "sb3"])
def test_checker_finds_nothing_but_what_the_definition_asks_for(family, check):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(make(family).unwrapped)
    wanted = EXPECTED.get((family.name, check), set())
    found = [str(w.message) for w in caught]
    assert [m for m in found if not any(part in m for part in wanted)] == []
    assert all(any(part in m for m in found) for part in wanted), "no longer warned of: drop it"


@pytest.mark.parametrize("family", EVERY, ids=ids)
@pytest.mark.filterwarnings("error")
class TestEveryView:
    def test_view_is_the_family(self, family):
        """The same steps as the family takes with the noise of the same seed."""
        rng, acts = np_random(7)[0], some_acts(family, 5)
        trace = episode(make(family), 7, acts)

        def noise(n):
            return torch.from_numpy(rng.random((1, 1, n), np.float32))

        task = make_task(family)
        state = family.reset(task, noise(family.reset_noise))
        np.testing.assert_array_equal(trace[0], family.observe(state)[0, 0].numpy())
        for act, (obs, rew, terminated, _) in zip(acts, trace[1:], strict=True):
            act = torch.as_tensor(act)[None, None]
            state, want, end = family.step(state, act, task, noise(family.step_noise))
            np.testing.assert_array_equal(obs, family.observe(state)[0, 0].numpy())
            assert (rew, terminated) == (want.item(), end.item())

    def test_seed_decides_the_episode(self, family):
        acts = some_acts(family, 5)
        env = make(family)
        first, again, other = (episode(env, seed, acts) for seed in (3, 3, 4))
        np.testing.assert_equal(again, first)
        if family.reset_noise:
            with pytest.raises(AssertionError):
                np.testing.assert_equal(other, first)
            unseeded = [episode(env, None, acts) for _ in range(3)]
            with pytest.raises(AssertionError):
                np.testing.assert_equal(unseeded[1:], unseeded[:-1])

    def test_horizon_truncates(self, family):
        env = make(family)
        env.reset(seed=0)
        if family.name in ENDS_ITSELF:
            return
        for t in range(family.horizon):
            if isinstance(family.action_space, Box):
                act = family.action_space.low  # away from any goal
            elif family.name in IDLE:
                act = IDLE[family.name]
            else:  # no pole may fall
                act = family.oracle(env.unwrapped.state, env.unwrapped.task).item()
            _, _, terminated, truncated, _ = env.step(act)
            assert (terminated, truncated) == (False, t == family.horizon - 1)

    def test_renders_the_frame_of_its_state(self, family):
        env = make(family)
        env.reset(seed=0)
        picture = env.render()
        assert (picture.dtype, picture.ndim, picture.shape[2]) == (np.uint8, 3, 3)
        view = env.unwrapped
        np.testing.assert_array_equal(picture, family.frame(view.state, view.task))

    def test_vector_of_views_steps_together(self, family):
        envs = gymnasium.make_vec(gymnasium_id(family), num_envs=3)
        obs, _ = envs.reset(seed=5)
        assert obs.shape == (3, *family.observation_space.shape)
        envs.action_space.seed(0)
        nxt, rew, terminated, truncated, _ = envs.step(envs.action_space.sample())
        assert nxt.shape == obs.shape
        assert rew.shape == terminated.shape == truncated.shape == (3,)
        np.testing.assert_array_equal(obs[1], make(family).reset(seed=6)[0])
        envs.close()


def test_parameters_choose_the_task():
    env = gymnasium.make("metarl/PointNavigation-v0", goal_x=0.2, goal_y=-0.1)
    env.reset(seed=0)
    _, rew, terminated, _, _ = env.step(np.array([0.1, -0.1], np.float32))
    assert (rew, terminated) == (pytest.approx(-0.1), False)
    _, rew, terminated, truncated, _ = env.step(np.array([0.1, 0.0], np.float32))
    assert (rew, terminated, truncated) == (pytest.approx(0.0, abs=1e-6), True, False)


def test_parameters_choose_the_task_of_a_vector():
    envs = gymnasium.make_vec("metarl/PointNavigation-v0", num_envs=2, goal_x=0.3, goal_y=0.4)
    envs.reset(seed=0)
    _, rew, _, _, _ = envs.step(np.zeros((2, 2), np.float32))
    np.testing.assert_allclose(rew, [-0.5, -0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"goal_z": 0.1}, "no parameter 'goal_z': give one of goal_x in [-0.8, 0.8] m, goal_y"),
        ({"goal_x": 0.9}, "goal_x=0.9 is out of bounds: give a value in [-0.8, 0.8] m"),
    ],
)
def test_wrong_parameter_says_what_to_give(values, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        gymnasium.make("metarl/PointNavigation-v0", **values)


def test_wrong_render_mode_says_what_to_give():
    with pytest.raises(UsageError, match="render_mode='ansi': give 'rgb_array' or None"):
        GymView(EVERY[0], render_mode="ansi")


def test_a_person_can_watch_in_a_window_without_a_keyboard(monkeypatch):
    """Gymnasium's own window, which needs pygame, shows the frames of any view."""
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Gymnasium draws the window, not the view
        env = gymnasium.make("metarl/Forager-v0", render_mode="human")
    env.reset(seed=0)
    env.step(0)
    shown = np.swapaxes(pygame.surfarray.array3d(pygame.display.get_surface()), 0, 1)
    view = env.unwrapped
    np.testing.assert_array_equal(shown, view.family.frame(view.state, view.task))
    env.close()
