"""Tasks as SB3's vectorised environment: the family's own episodes, one after the other."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from sb3_contrib import TRPO, RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from torch.testing import assert_close

import metarl
from metarl import to_vec_env
from metarl.envs import GymnasiumFamily, make_family, sample_tasks, task_values
from metarl.envs.classic_control.cartpole import CartPole
from metarl.envs.core.parameters import Range

FAMILIES = [
    make_family(name)
    for name in ("cartpole", "point-navigation", "word-guess", "forager", "recommender", "snake")
]
OURS = {"TimeLimit.truncated", "episode", "terminal_observation"}


def ids(family):
    return getattr(family, "name", None)


def some_tasks(family, n=3):
    return sample_tasks(family, n, torch.Generator().manual_seed(1))


def some_acts(env, steps):
    env.action_space.seed(0)
    return np.stack(
        [[env.action_space.sample() for _ in range(env.num_envs)] for _ in range(steps)]
    )


def roll(env, acts, seed=0):
    """First observations, then what each step gave."""
    env.seed(seed)
    first = env.reset()
    return first, [env.step(a) for a in acts]


def one_by_one(family, task, acts, seed):
    """The same from the definition: each task alone, an episode at a time, with the same noise."""
    gen = torch.Generator().manual_seed(seed)
    n = len(task[0])
    alone = [type(task)(*(x[i : i + 1] for x in task)) for i in range(n)]

    def start(which):
        noise = torch.rand(len(which), 1, family.reset_noise, generator=gen)
        return {i: family.reset(alone[i], noise[k : k + 1]) for k, i in enumerate(which)}

    states, steps = start(range(n)), dict.fromkeys(range(n), 0)
    seen = [np.stack([family.observe(states[i])[0, 0] for i in range(n)])]
    for act in torch.as_tensor(acts):
        noise = torch.rand(n, 1, family.step_noise, generator=gen)
        row = []
        for i in range(n):
            where = act[i][None, None]
            states[i], rew, end = family.step(states[i], where, alone[i], noise[i : i + 1])
            steps[i] += 1
            late = steps[i] == family.horizon
            row.append((family.observe(states[i])[0, 0].numpy(), rew.item(), end.item(), late))
        if again := [i for i in range(n) if row[i][2] or row[i][3]]:
            states |= start(again)
            steps |= dict.fromkeys(again, 0)
        seen.append((row, np.stack([family.observe(states[i])[0, 0] for i in range(n)])))
    return seen


@pytest.mark.parametrize("family", FAMILIES, ids=ids)
def test_steps_are_those_of_each_task_played_alone(family):
    env = to_vec_env(family, some_tasks(family))
    acts = some_acts(env, 2 * family.horizon + 3)
    first, got = roll(env, acts)
    start, *wanted = one_by_one(family, env.task, acts, seed=0)
    np.testing.assert_allclose(first, start, atol=1e-6)
    ends = 0
    for (obs, rew, over, infos), (row, next_obs) in zip(got, wanted, strict=True):
        np.testing.assert_allclose(obs, next_obs, atol=1e-5)
        for i, (last, reward, ended, late) in enumerate(row):
            assert over[i] == (ended or late)
            assert rew[i] == pytest.approx(reward, abs=1e-5)
            assert set(infos[i]) == (OURS if over[i] else set())
            if over[i]:
                ends += 1
                np.testing.assert_allclose(infos[i]["terminal_observation"], last, atol=1e-5)
                assert infos[i]["TimeLimit.truncated"] == (late and not ended)
    assert ends >= 6
    assert (obs.dtype, rew.dtype, over.dtype) == (env.observation_space.dtype, "float32", "bool")


def test_an_episode_is_told_with_its_return_and_length():
    family = make_family("cartpole")
    env = to_vec_env(family, some_tasks(family))
    _, got = roll(env, some_acts(env, 150))
    totals, lengths = np.zeros(3), np.zeros(3)
    told = 0
    for _, rew, over, infos in got:
        totals, lengths = totals + rew, lengths + 1
        for i in np.flatnonzero(over):
            assert infos[i]["episode"] == {"r": totals[i], "l": lengths[i]}
            totals[i], lengths[i] = 0, 0
            told += 1
    assert told > 3


def test_a_seed_means_the_same_again_and_another_seed_something_else():
    family = make_family("cartpole")
    env, twin = (to_vec_env(family, some_tasks(family)) for _ in range(2))
    acts = some_acts(env, 60)
    (a, rest_a), (b, rest_b), (c, _) = roll(env, acts), roll(twin, acts), roll(env, acts, seed=1)
    np.testing.assert_array_equal(a, b)
    for one, other in zip(rest_a, rest_b, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    assert not np.array_equal(a, c)
    assert not np.array_equal(a, env.reset()), "a seed is for one reset"


def test_copies_of_a_task_are_side_by_side_and_differ_in_their_luck():
    family = make_family("cartpole")
    task = some_tasks(family, 2)
    env = to_vec_env(family, task, copies=3)
    assert env.num_envs == 6
    assert_close(env.task.length[:, 0], task.length[[0, 0, 0, 1, 1, 1], 0])
    first = env.reset()
    assert len(np.unique(first, axis=0)) == 6


def test_actions_can_be_given_in_units_of_half_the_box():
    family = make_family("point-navigation")
    env, unit = (to_vec_env(family, some_tasks(family), unit_actions=u) for u in (False, True))
    assert unit.action_space == Box(-1.0, 1.0, (2,))
    acts = some_acts(unit, 5)
    _, mine = roll(env, acts * family.action_space.high)
    _, other = roll(unit, acts)
    np.testing.assert_allclose(mine[-1][0], other[-1][0], rtol=1e-6)
    assert not np.allclose(mine[-1][0], 0)


@pytest.fixture(scope="module")
def pendulum():
    family = GymnasiumFamily(
        "Pendulum-v1", {"g": Range(5.0, 15.0)}, fixed={"max_episode_steps": 4}, workers=1
    )
    yield family
    family.close()


def test_environments_in_workers_go_on_by_themselves(pendulum):
    """Against Gymnasium's own, with the seeds that the same stream gives."""
    task = some_tasks(pendulum)
    env = to_vec_env(pendulum, task)
    acts = some_acts(env, 11)
    first, got = roll(env, acts, seed=5)
    gen = torch.Generator().manual_seed(5)
    plain = [
        gymnasium.make("Pendulum-v1", g=v["g"], max_episode_steps=4) for v in task_values(task)
    ]

    def start():
        seeds = torch.randint(2**31 - 1, (3,), generator=gen).tolist()
        return np.stack([p.reset(seed=s)[0] for p, s in zip(plain, seeds, strict=True)])

    np.testing.assert_array_equal(first, start())
    for t, (obs, rew, over, infos) in enumerate(got):
        last, reward, _, truncated, _ = zip(
            *(p.step(2 * a) for p, a in zip(plain, acts[t], strict=True)), strict=True
        )
        np.testing.assert_allclose(rew, reward, rtol=1e-5)
        assert over.tolist() == list(truncated) == [t % 4 == 3] * 3
        if t % 4 == 3:
            ended = [i["terminal_observation"] for i in infos]
            np.testing.assert_allclose(ended, last, atol=1e-6)
            assert all(i["TimeLimit.truncated"] for i in infos)
            last = start()
        np.testing.assert_allclose(obs, last, atol=1e-6)
    env.close()


def test_other_uses_of_a_family_leave_its_environments_alone(pendulum):
    env, other = (to_vec_env(pendulum, some_tasks(pendulum)) for _ in range(2))
    acts = some_acts(env, 3)
    _, undisturbed = roll(env, acts)
    env.seed(0)
    env.reset()
    env.step(acts[0])
    other.reset()
    env.step(acts[1])
    np.testing.assert_array_equal(env.step(acts[2])[0], undisturbed[2][0])
    env.close()
    other.close()


@pytest.mark.parametrize("name", ["hopper-rand-params", "ant-goal"])
def test_bodies_that_fall_begin_anew_and_disturb_no_other(name):
    """Until its first end each row is the rollout that begins in the same states."""
    pytest.importorskip("mujoco")
    family = make_family(name)
    task = some_tasks(family, 6)
    env = to_vec_env(family, task)
    acts = some_acts(env, 60)
    first, got = roll(env, acts)
    simulator = family.simulate(task, 1, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(first, simulator.reset()[:, 0])
    valid = np.ones(6, bool)
    for act, (obs, rew, over, infos) in zip(acts, got, strict=True):
        want, reward, *_ = simulator.step(torch.as_tensor(act)[:, None])
        kept = valid & ~over
        np.testing.assert_allclose(obs[kept], want[kept, 0], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(rew[valid], reward[valid, 0], rtol=1e-6, atol=1e-9)
        for i in np.flatnonzero(valid & over):
            np.testing.assert_allclose(infos[i]["terminal_observation"], want[i, 0], rtol=1e-6)
        valid = kept
        for i in np.flatnonzero(over):
            assert np.abs(obs[i] - first[i]).max() < 1.0  # from the start, with other noise
            assert not np.array_equal(obs[i], first[i])
    if name.startswith("hopper"):
        assert not valid.any()
        assert sum(o.sum() for _, _, o, _ in got) > 6, "no second episode ended"


def test_a_body_that_has_begun_anew_moves_as_one_that_starts_there():
    pytest.importorskip("mujoco")
    family = make_family("hopper-rand-params")
    env = to_vec_env(family, some_tasks(family, 2))
    acts = some_acts(env, 8)
    env.seed(0)
    env.reset()
    env.step(acts[0])
    simulator = env._simulator
    simulator.restart(torch.tensor([1]))
    state = simulator.state.copy()
    moved = [env.step(a) for a in acts[1:]]
    other = to_vec_env(family, some_tasks(family, 2))
    other.reset()
    other._simulator.state[:] = state
    other._simulator.physics = other._simulator._physics()
    for a, (obs, rew, *_) in zip(acts[1:], moved, strict=True):
        want, reward, *_ = other.step(a)
        np.testing.assert_allclose(obs[1], want[1], rtol=1e-6)
        np.testing.assert_allclose(rew[1], reward[1], rtol=1e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("learner", [PPO, A2C, TRPO, RecurrentPPO])
def test_sb3_learns_in_it(learner):
    family = CartPole(width=1e3)  # pays 1 a step, wherever the cart is
    env = to_vec_env(family, some_tasks(family), copies=2)
    policy = "MlpLstmPolicy" if learner is RecurrentPPO else "MlpPolicy"
    more = {} if learner is A2C else {"batch_size": 32}
    if learner is RecurrentPPO:
        more |= {"policy_kwargs": {"lstm_hidden_size": 8}, "n_epochs": 1}
    model = learner(policy, env, n_steps=32, seed=0, device="cpu", **more)
    before = [p.clone() for p in model.policy.parameters()]
    model.learn(400)
    assert any((a != b).any() for a, b in zip(before, model.policy.parameters(), strict=True))
    assert len(model.ep_info_buffer) > 3
    mean, _ = evaluate_policy(model, env, n_eval_episodes=6)
    assert 5 < mean <= 200


def test_ppo_finds_the_best_arm():
    family = make_family("bandit")
    rates = {f"arm_{i}": 0.9 if i == 2 else 0.1 for i in range(family.arms)}
    env = to_vec_env(family, metarl.make_task(family, **rates), copies=16)
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=64, learning_rate=0.01, seed=0)
    model.learn(6000)
    reward, _ = evaluate_policy(model, env, n_eval_episodes=32)
    assert reward > 0.8 * family.horizon


def test_metarl_is_imported_without_sb3():
    code = "import sys, metarl; assert 'stable_baselines3' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_random_numbers_are_not_shared_between_unseeded_environments():
    family = make_family("cartpole")
    one, other = (to_vec_env(family, some_tasks(family)) for _ in range(2))
    assert not np.array_equal(one.reset(), other.reset())
