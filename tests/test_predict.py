"""`agent.predict` acts as rollouts do, with the arrays and spaces of Gymnasium."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from planes import Lamp
from reference import draw
from test_agent_file import Switches, gen, grown

import metarl
from metarl.agents.networks.policy import act_dist
from metarl.envs import UsageError, make_family
from metarl.envs.adapters.gym_env import GymView

N, B = 2, 3
GRADIENT = [
    (make_family("point-navigation"), {}),
    (make_family("forager"), {}),
    (Lamp(bytes=True), {"network": "cnn"}),
    (Lamp(several=True), {"network": "mlp"}),
    (Switches(), {"normalized": ("obs",)}),
]
MEMORY = [
    (make_family("point-navigation"), "rl2"),
    (Lamp(several=True), "fwp"),
    (Lamp(bytes=True), "rl2"),
]


def rows(x):
    """(N, B, ...) as predict has it, (N * B, ...)."""
    return x.flatten(0, 1).numpy()


def clipped(act, space):
    return np.clip(act, space.low, space.high) if isinstance(space, Box) else act


def replayed(agent, family, data, state=None, reward=None):
    """Actions that predict gives at the observations of a deterministic rollout, step by step."""
    assert data.mask.all()  # else rows that have ended would go on
    for t in range(data.rew.shape[1]):
        starts = np.full(N * B, t == 0)
        obs = rows(data.obs[:, t])
        act, state = agent.predict(obs, state, starts, deterministic=True, reward=reward)
        want = clipped(rows(data.act[:, t]), family.action_space)
        np.testing.assert_allclose(act, want, rtol=1e-5, atol=1e-6)
        assert act.dtype == family.action_space.dtype
        reward = rows(data.rew[:, t])
    return state, reward


@pytest.mark.parametrize(("family", "settings"), GRADIENT)
def test_an_adapted_agent_acts_as_in_its_rollouts(family, settings):
    task = draw(family, N)
    slow = grown(family, inner_lr=0.5, **settings)
    adapted = slow.adapt(family, task, 2, 4, gen(2))
    for agent in (adapted, dataclasses.replace(adapted, params=slow.params)):
        replayed(agent, family, agent.play(family, task, B, gen(3), deterministic=True))


@pytest.mark.parametrize(("family", "algo"), MEMORY)
def test_a_memory_acts_as_in_its_rollouts_throughout_an_episode(family, algo):
    """In new trials, and in those that go on from what the agent remembers."""
    agent, task = grown(family, algo), draw(family, N)
    for _ in range(2):
        data = agent.play(family, task, B, gen(3), deterministic=True)
        replayed(agent, family, data)
        agent = agent.learn(data)


@pytest.mark.parametrize("algo", ["rl2", "fwp"])
def test_the_state_outlives_an_episode_as_the_agents_memory_does(algo):
    family = Lamp(several=True)
    agent, task = grown(family, algo), draw(family, N)
    data = agent.play(family, task, B, gen(3), deterministic=True)
    state, reward = replayed(agent, family, data)
    learned = agent.learn(data)
    for one, two in zip(state, learned.memory[:2], strict=True):
        np.testing.assert_allclose(one, rows(two), atol=1e-5)
    np.testing.assert_array_equal(reward, rows(learned.memory.rew))
    after = learned.play(family, task, B, gen(4), deterministic=True)
    replayed(agent, family, after, state, reward)


def test_a_memory_reads_the_reward_and_whether_an_episode_begins():
    family = Lamp()
    agent = grown(family, "rl2")
    obs = rows(draw_obs(family))
    _, state = agent.predict(obs)
    told = {"deterministic": True, "reward": np.zeros(N * B)}
    (hidden, _), *others = (
        agent.predict(obs, state, **{**told, **more})[1]
        for more in ({}, {"episode_start": np.ones(N * B, bool)}, {"reward": np.ones(N * B)})
    )
    for other, _ in others:
        assert (np.abs(hidden - other) > 1e-4).any(1).all()
    one = agent.predict(obs, state, **{**told, "reward": np.eye(1, N * B)[0]})[1][0]
    assert (one != hidden).any(1).tolist() == [True, *[False] * (N * B - 1)]


def draw_obs(family):
    task = draw(family, N)
    return family.observe(family.reset(task, torch.rand(N, B, family.reset_noise, generator=gen())))


@pytest.mark.parametrize(("family", "settings"), [*GRADIENT, (Lamp(), {"algo": "rl2"})])
def test_samples_are_those_of_the_policys_distribution(family, settings):
    agent, obs = grown(family, **settings), draw_obs(family)
    if "algo" in settings:
        dist = agent.actor()(obs.view(1, N * B, *obs.shape[2:]), None)
    else:
        dist = act_dist(agent.policy, agent.params, obs.flatten(0, 1)[None])
    torch.manual_seed(7)
    want = dist.sample(dist.noise())
    torch.manual_seed(7)
    act, _ = agent.predict(rows(obs))
    np.testing.assert_array_equal(act, clipped(rows(want), family.action_space))


@pytest.mark.parametrize(
    ("family", "settings"), [*GRADIENT, *((f, {"algo": algo}) for f, algo in MEMORY)]
)
def test_one_observation_is_played_in_gymnasium(family, settings):
    env, agent = GymView(family), grown(family, **settings)
    obs, _ = env.reset(seed=0)
    state, reward, start = None, 0.0, True
    for _ in range(4):
        action, state = agent.predict(obs, state, start, reward=reward)
        assert isinstance(action, np.ndarray)
        assert env.action_space.contains(action)
        obs, reward, start, _, _ = env.step(action)


def test_actions_beyond_the_box_are_its_edge_and_read_as_chosen():
    family = make_family("point-navigation")
    agent = grown(family, "rl2")
    wide = torch.full_like(agent.params["layers.0.bias"], 5.0)
    agent = dataclasses.replace(agent, params={**agent.params, "layers.0.bias": wide})
    act, (_, numbers) = agent.predict(np.zeros(2, np.float32), deterministic=True)
    np.testing.assert_array_equal(act, family.action_space.high)
    assert (numbers > 4).all()


def test_stable_baselines3_evaluates_an_adapted_agent():
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation")
    family = make_family("cartpole")
    task = metarl.make_task(family, length=0.7)
    adapted = grown(family).adapt(family, task, 1, 4, gen())
    env = metarl.to_vec_env(family, task, copies=2)
    mean, _ = evaluation.evaluate_policy(adapted, env, n_eval_episodes=2)
    assert mean > 0


@pytest.mark.parametrize(
    ("obs", "how", "said"),
    [
        (np.zeros(3), {}, r"observations of shape \(3,\): give one of shape \(2, 8, 8\), or a"),
        (np.zeros((2, 8, 8)), {}, "observations of float64: the agent sees bytes"),
        (np.zeros((0, 2, 8, 8), np.uint8), {}, "0 observations for an agent adapted to 1"),
        (1, {"state": ()}, r"recurrent state of shapes \[\]: give the one that predict returned"),
        (1, {"state": 5}, "recurrent state of shapes None"),
        (1, {"reward": None}, "predict with a state and no reward: .* give reward="),
        (1, {"reward": [1.0, 2.0, 3.0]}, r"reward of shape \(3,\) for 2 observations"),
        (1, {"episode_start": [True] * 3}, r"episode_start of shape \(3,\) for 2 observations"),
    ],
)
def test_what_cannot_be_predicted_from_is_said(obs, how, said):
    agent = grown(Lamp(bytes=True), "rl2")
    if isinstance(obs, int):
        obs = np.zeros((2, 2, 8, 8), np.uint8)
        how = {"state": agent.predict(obs)[1], "reward": 0.0, **how}
    with pytest.raises(UsageError, match=said):
        agent.predict(obs, **how)


def test_a_batch_is_as_many_observations_of_each_task():
    family = make_family("cartpole")
    agent = grown(family).adapt(family, draw(family, 2), 1, 2, gen())
    with pytest.raises(UsageError, match="3 observations for an agent adapted to 2 tasks"):
        agent.predict(np.zeros((3, *family.observation_space.shape), np.float32))
