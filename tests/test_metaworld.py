"""Meta-World's tasks and goals against its own benchmarks; one environment serves every goal."""

import pickle

import numpy as np
import pytest
import torch

metaworld = pytest.importorskip("metaworld")

from metaworld.policies import ENV_POLICY_MAP  # noqa: E402

from metarl.envs import UsageError, make_family, sample_tasks  # noqa: E402
from metarl.envs.gym.preprocessing.metaworld import metaworld_env, set_goal  # noqa: E402

REACH = "metaworld-ml1-reach"


def play(env, goal, steps=40, seed=0, expert=None):
    """Observations, rewards and successes of an episode; by chance, or by Meta-World's expert."""
    set_goal(env, goal)
    obs, _ = env.reset(seed=seed)
    gen, trace = np.random.default_rng(1), [obs]
    for _ in range(steps):
        act = gen.uniform(-1, 1, 4)
        if expert:
            told = np.concatenate([obs[:36], env.unwrapped._target_pos])
            act = expert.get_action(told).clip(-1, 1)
        obs, rew, _, _, info = env.step(act.astype(np.float32))
        trace.append(np.append(obs, [rew, info["success"]]))
    return trace


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_goals_are_those_of_the_benchmark():
    """50 of training and then 50 of test."""
    theirs = metaworld.ML1("reach-v3", seed=0)
    env = metaworld_env("reach-v3")
    for goal, task in enumerate([*theirs.train_tasks, *theirs.test_tasks]):
        set_goal(env, goal)
        np.testing.assert_array_equal(
            env.unwrapped._last_rand_vec, pickle.loads(task.data)["rand_vec"]
        )
    assert goal == 99


def test_goals_of_test_are_held_out():
    family = make_family(REACH)
    for split, wanted in (("train", range(50)), ("test", range(50, 100))):
        task = sample_tasks(family, 2000, torch.Generator().manual_seed(0), split)
        assert set(task.goal.flatten().tolist()) == set(wanted)


@pytest.mark.parametrize(
    ("benchmark", "train", "test"),
    [
        ("ml10", 10, "drawer-open door-close shelf-place sweep-into lever-pull"),
        ("ml25", 24, "basketball door-close shelf-place sweep button-press"),
        ("ml45", 45, "bin-picking box-close hand-insert door-lock door-unlock"),
    ],
)
def test_tasks_of_test_are_held_out(benchmark, train, test):
    family = make_family(f"metaworld-{benchmark}")
    task = family.parameters["task"]
    names = {split: [task.show(v) for v in task.members(split)] for split in ("train", "test")}
    assert names["test"] == [f"{name}-v3" for name in test.split()]
    assert len(set(names["train"])) == train
    assert not set(names["train"]) & set(names["test"])
    goal = family.parameters["goal"]
    assert set(goal.members("test")) == set(goal.members("train")) == set(range(50))
    assert set(goal.members("validation")) == set(range(100, 150))  # of tasks of training


def test_the_goal_is_hidden_and_counts():
    env = metaworld_env("reach-v3")
    one, other = play(env, 0), play(env, 1)
    np.testing.assert_array_equal(np.array([x[36:39] for x in one[1:]]), 0.0)
    assert one[1][-2] != other[1][-2]


@pytest.mark.parametrize("task", ["reach-v3", "pick-place-v3", "door-open-v3"])
def test_one_environment_serves_every_goal(task):
    """Also after another, and whatever the seed."""
    env = metaworld_env(task)
    first = play(env, 60, seed=0)
    other = play(env, 1, seed=1)
    assert same(play(env, 60, seed=2), first)
    assert same(play(metaworld_env(task), 1), other)


@pytest.mark.parametrize("task", ["door-open-v3", "peg-insert-side-v3", "dial-turn-v3"])
def test_two_environments_at_once_play_as_meta_worlds_own_do(task):
    """They share a MuJoCo model, in which each has its own places of bodies and sites."""
    theirs, places = [], []
    for goal in (0, 60):
        alone = metaworld.ALL_V3_ENVIRONMENTS[task]()
        alone.task_name = task
        theirs.append(play(alone, goal))
        places.append(alone.data.site_xpos)  # of what a picture shows, the goal too
    pair = [metaworld_env(task), metaworld_env(task)]
    assert pair[0].unwrapped.model is pair[1].unwrapped.model
    for env, goal in zip(pair, (0, 60), strict=True):
        set_goal(env, goal)
    mine = [[env.reset(seed=0)[0]] for env in pair]
    gen = np.random.default_rng(1)
    for _ in range(40):
        act = gen.uniform(-1, 1, 4).astype(np.float32)
        for env, trace in zip(pair, mine, strict=True):
            obs, rew, _, _, info = env.step(act)
            trace.append(np.append(obs, [rew, info["success"]]))
    assert same(mine[0], theirs[0])
    assert same(mine[1], theirs[1])
    assert same([env.unwrapped.data.site_xpos for env in pair], places)
    assert not same(mine[0], mine[1])


def test_a_goal_that_random_play_does_not_feel():
    """The plate has to be moved; experts do, and the family takes this on trust."""
    env, expert = metaworld_env("plate-slide-back-v3"), ENV_POLICY_MAP["plate-slide-back-v3"]()
    rewards = [[x[-2] for x in play(env, goal, 60, expert=expert)[1:]] for goal in (0, 1)]
    assert rewards[0] != rewards[1]
    family = make_family("metaworld-ml1-plate-slide-back")
    family.workers = 1
    try:
        assert (family.horizon, family.success) == (500, True)
    finally:
        family.close()


def test_an_expert_succeeds_within_the_horizon():
    env = make_family(REACH).make_env(goal=70)
    expert, (obs, _) = ENV_POLICY_MAP["reach-v3"](), env.reset()
    success = []
    for _ in range(500):
        told = np.concatenate([obs[:36], env.unwrapped._target_pos])
        obs, _, terminated, truncated, info = env.step(
            expert.get_action(told).clip(-1, 1).astype(np.float32)
        )
        success.append(info["success"])
    assert max(success) == 1
    assert (terminated, truncated) == (False, True)


def test_a_task_that_there_is_not():
    with pytest.raises(UsageError, match=r"metaworld-ml1-juggle.*metaworld-ml1- and one of.*reach"):
        make_family("metaworld-ml1-juggle")
    with pytest.raises(UsageError, match=r"'juggle-v3'.*reach-v3"):
        metaworld_env("juggle-v3")
