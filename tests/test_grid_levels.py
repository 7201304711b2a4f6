"""MiniGrid's levels: the same in every episode, unlike each other, and seen without the mission."""

import gymnasium
import numpy as np
import pytest

pytest.importorskip("minigrid")

from metarl.envs import SPLITS, make_family
from metarl.envs.gym.preprocessing.minigrid import grid_level
from metarl.envs.suites import SUITES

NAMES = [name for name in SUITES if name.startswith("minigrid-")]
DOOR = "MiniGrid-GoToDoor-5x5-v0"
DONE = 6


def drawn(env):
    """The whole level: what lies where, the agent, the mission."""
    bare = env.unwrapped
    things = [t and (t.type, t.color, vars(t).get("is_locked")) for t in bare.grid.grid]
    return tuple(things), tuple(bare.agent_pos), bare.agent_dir, bare.mission


@pytest.mark.parametrize("name", NAMES)
def test_no_level_of_validation_or_test_is_one_of_training(name):
    family = make_family(name)
    level = family.parameters["level"]
    bare = gymnasium.make(family.env_config.spec.kwargs["environment"]).unwrapped

    def built(seeds):
        out = []
        for seed in seeds:
            bare.reset(seed=round(seed))
            out.append(drawn(bare))
        return out

    parts = [built(level.members(split)) for split in SPLITS[:3]]
    sizes, total = [len(part) for part in parts], len(set(built(range(1000))))
    assert sizes == [total - total // 10 - total // 5, total // 10, total // 5]
    assert len(set().union(*parts)) == total


def test_every_episode_is_played_on_one_level():
    env, other = grid_level(DOOR, level=3), grid_level(DOOR, level=4)
    seen = []
    for seed in (0, 1, None):
        obs, _ = env.reset(seed=seed)
        seen.append((obs.tobytes(), *drawn(env)))
    assert len(set(seen)) == 1
    other.reset(seed=0)
    assert drawn(other) != drawn(env)


def test_planes_are_the_one_hot_picture_and_nothing_else():
    """Kinds, colours and states, decoded, are what MiniGrid's own environment shows."""
    env, theirs = grid_level(DOOR, level=7), gymnasium.make(DOOR)
    obs, picture = env.reset()[0], theirs.reset(seed=7)[0]["image"]
    gen = np.random.default_rng(0)
    for _ in range(30):
        assert env.observation_space.contains(obs)
        parts = np.split(obs, (11, 17))
        for channel, part in enumerate(parts):
            assert (part.sum(0) == 1).all()
            np.testing.assert_array_equal(part.argmax(0), picture[..., channel])
        act = gen.integers(5)  # not those that end the episode
        obs, rew, *ends, _ = env.step(act)
        theirs_obs, theirs_rew, *theirs_ends, _ = theirs.step(act)
        picture = theirs_obs["image"]
        assert (rew, ends) == (theirs_rew, theirs_ends)


@pytest.mark.parametrize("right", [True, False])
def test_success_is_to_stop_at_the_right_door(right):
    env = grid_level(DOOR, level=0)
    env.reset()
    bare = env.unwrapped
    doors = [
        (x, y)
        for x in range(bare.width)
        for y in range(bare.height)
        if (thing := bare.grid.get(x, y)) and thing.type == "door"
    ]
    assert len(doors) == 4
    x, y = next(d for d in doors if (d == tuple(bare.target_pos)) == right)
    bare.agent_pos = (min(max(x, 1), bare.width - 2), min(max(y, 1), bare.height - 2))
    _, rew, terminated, _, info = env.step(DONE)
    assert terminated
    assert ((rew > 0), info["success"]) == (right, right)
