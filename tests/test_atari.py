"""Our preprocessing against that of ALE's own vector environment, frame by frame."""

import gymnasium
import numpy as np
import pytest

ale_py = pytest.importorskip("ale_py")

from ale_py.vector_env import AtariVectorEnv  # noqa: E402

from metarl.envs import Choice, GymnasiumFamily, UsageError, make_task  # noqa: E402
from metarl.envs.gym.preprocessing import atari as module  # noqa: E402

GAMES = ["breakout", "freeway", "pong", "space_invaders"]


def ours(game, **more):
    name = "".join(word.capitalize() for word in game.split("_"))
    return module.atari(f"ALE/{name}-v5", **more)


@pytest.mark.parametrize("game", GAMES)
def test_every_frame_reward_and_end(monkeypatch, game):
    """Without the random no-ops, whose number each draws from a stream of its own."""
    monkeypatch.setattr(module, "MAX_NOOPS", 0)
    theirs, mine = AtariVectorEnv(game, 1, noop_max=0), ours(game)
    obs, _ = theirs.reset(seed=0)
    np.testing.assert_array_equal(obs[0], mine.reset(seed=0)[0])
    gen = np.random.default_rng(0)
    assert mine.action_space.n == theirs.single_action_space.n
    total = 0
    for _ in range(400):
        act = gen.integers(mine.action_space.n)
        obs, rew, terminated, truncated, _ = theirs.step(np.array([act]))
        got, gain, end, cut, _ = mine.step(act)
        np.testing.assert_array_equal(obs[0], got)
        assert (rew[0], terminated[0], truncated[0]) == (gain, end, cut)
        total += abs(gain)
        if end:
            break
    assert total > 0 or game == "freeway"  # which no random player crosses


def test_it_starts_with_fire_and_then_with_no_action(monkeypatch):
    """The first frame, ours and theirs, is that of FIRE and of 0 to 30 frames of no action."""
    monkeypatch.setattr(module, "MAX_NOOPS", 0)
    env = ours("breakout")
    seen, bare = env.env.env, env.unwrapped
    env.reset(seed=0)
    starts = []
    for _ in range(31):
        bare.ale.getScreenGrayscale(seen.obs_buffer[0])
        seen.obs_buffer[1][:] = 0
        starts.append(seen._get_obs().tobytes())
        bare.step(0)
    assert len(set(starts)) > 15
    monkeypatch.setattr(module, "MAX_NOOPS", 30)
    counts = [starts.index(env.reset(seed=s)[0][-1].tobytes()) for s in range(12)]
    assert len(set(counts)) > 4
    for seed in range(5):
        obs, _ = AtariVectorEnv("breakout", 1).reset(seed=seed)
        assert obs[0, -1].tobytes() in starts


def play(env, seed, steps=60):
    """Last frames and rewards of random play."""
    gen = np.random.default_rng(0)
    trace = [env.reset(seed=seed)[0][-1].tobytes()]
    for _ in range(steps):
        obs, rew, terminated, _, _ = env.step(gen.integers(env.action_space.n))
        trace.append((obs[-1].tobytes(), rew, terminated))
    return trace


@pytest.mark.parametrize("chance", [0.0, 0.25])
def test_an_episode_is_that_of_a_game_just_loaded(chance):
    """In Kaboom something of the last episode outlives ALE's own reset of the game."""
    env = ours("kaboom", repeat_action_probability=chance)
    first = play(env, 1)
    play(env, 2)
    assert play(env, 1) == first == play(ours("kaboom", repeat_action_probability=chance), 1)


def test_chance_depends_on_the_seed(monkeypatch):
    monkeypatch.setattr(module, "MAX_NOOPS", 0)
    for chance, differ in ((0.0, False), (0.25, True)):
        env = ours("kaboom", repeat_action_probability=chance)
        assert (play(env, 1) != play(env, 2)) == differ


def test_a_game_without_a_mode_0_has_its_own():
    assert 0 not in ours("pooyan").unwrapped.ale.getAvailableModes()


def test_modes_are_variants():
    family = GymnasiumFamily(
        "ALE/Freeway-v5",
        {"mode": Choice((0.0, 1.0, 6.0), held_out=(6.0,)), "difficulty": Choice((0.0, 1.0))},
        workers=1,
    )
    try:
        assert (family.observation_space.shape, family.horizon) == ((4, 84, 84), module.STEPS)
        assert str(family.observation_space.dtype) == "uint8"
        assert make_task(family).mode.item() == 0
    finally:
        family.close()


@pytest.mark.parametrize(
    ("name", "vary", "words"),
    [
        ("ALE/Nothing-v5", {"mode": Choice((0.0, 1.0))}, "Nothing"),
        ("ALE/Freeway-v5", {"mode": Choice((0.0, 99.0))}, "mode=99"),
        ("ALE/Freeway-v5", {"color": Choice((0.0, 1.0))}, "difficulty, environment"),
    ],
)
def test_what_a_game_does_not_have(name, vary, words):
    with pytest.raises(UsageError, match=words):
        GymnasiumFamily(name, vary, workers=1).horizon  # noqa: B018
    assert gymnasium.registry
