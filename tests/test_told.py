"""A policy that is told the task, and one with a memory: two rows of `evaluate --baselines`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from lookup import ITEMS, Lookup
from small import small

from metarl.baselines.ppo_model import PPOSettings, new_ppo, ppo_env, weights_of, with_weights
from metarl.baselines.recurrent_ppo import columns, evaluate_recurrent, train_recurrent
from metarl.baselines.sb3_ppo import play, train_over_variants
from metarl.baselines.told_the_task import task_numbers
from metarl.envs import Choice, Range, make_family, sample_tasks
from metarl.experiment.checkpoint import save_checkpoint

CFG = PPOSettings(gamma=0.0, gae_lambda=0.0, hidden=(32, 32), lr=3e-3, minibatches=4, epochs=4)


def learned(cfg, family):
    """Mean return on tasks that training didn't draw."""
    model = train_over_variants(cfg, family, 16_000)
    env = ppo_env(cfg, family, sample_tasks(family, 40, torch.Generator().manual_seed(3)))
    env.seed(0)
    same = with_weights(new_ppo(cfg, env, 2), weights_of(model))
    return np.mean(play(same, env, 200)[0])


def test_modulation_finds_what_inputs_side_by_side_do_not():
    """Which action an item calls for is a product of item and task; the optimum is the horizon."""
    told = learned(replace(CFG, told=True), Lookup())
    as_inputs = learned(CFG, Lookup(reveal=True))
    assert told > 0.97 * Lookup().horizon
    assert as_inputs < told - 1


def test_parameters_are_told_as_numbers_of_about_one():
    known = {
        "mass": Range(1.0, 3.0, extrapolation=(0.0, 4.0)),
        "damping": Range(0.01, 1.0, log=True),
        "gear": Choice((1.0, 2.0, 4.0), extrapolation=(8.0,)),
        "sign": Choice((-2.0, 2.0)),
        "map": Choice((0.0, 1.0), labels=("small", "large")),
        "fixed": Range(5.0, 5.0),
    }

    class Task:
        mass = torch.tensor([[1.0], [4.0]])
        damping = torch.tensor([[0.1], [1.0]])
        gear = torch.tensor([[4.0], [8.0]])
        sign = torch.tensor([[-2.0], [2.0]])
        map = torch.tensor([[0.0], [1.0]])
        fixed = torch.tensor([[5.0], [5.0]])

    got = task_numbers(known, Task)
    gear = [[1, 0, 0, 1, 0], [(8 - 2.5) / 1.5, 0, 0, 0, 1]]
    want = [[-1, 0, *gear[0], -1, 1, 0, 0], [2, 1, *gear[1], 1, 0, 1, 0]]
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_episodes_that_end_hand_over_the_last_observation_with_the_task():
    family = make_family("cartpole")
    cfg = replace(CFG, told=True)
    task = sample_tasks(family, 3, torch.Generator().manual_seed(0))
    env = ppo_env(cfg, family, task)
    size = family.observation_space.shape[0]
    assert env.reset().shape == (3, size + env.told.shape[1])
    for _ in range(60):
        obs, _, over, infos = env.step(np.zeros(3, int))
        np.testing.assert_array_equal(obs[:, size:], env.told)
        for i in np.flatnonzero(over):
            np.testing.assert_array_equal(infos[i]["terminal_observation"][size:], env.told[i])
    assert len(np.unique(env.told, axis=0)) == 3


class Bytes(Lookup):
    """The same items as bytes, which metarl's own policies scale."""

    observation_space = Box(0, 255, (ITEMS,), np.uint8)

    def observe(self, state):
        return 255 * super().observe(state)


def test_bytes_are_seen_as_their_255th_part():
    family = Bytes()
    env = ppo_env(CFG, family, sample_tasks(family, 5, torch.Generator().manual_seed(0)))
    assert env.reset().sum(axis=1) == pytest.approx(np.ones(5))
    assert env.observation_space.dtype == np.float32


@pytest.mark.parametrize(
    ("trial", "budget", "which"),
    [(4, 20, [0, 3, 3, 3]), (2, 20, [0, 1, 1, 1]), (10, 1, [0, 1, 2, 3]), (3, 1, [0, 1, 2, 2])],
)
def test_a_memory_shows_the_last_episode_that_it_was_trained_to_reach(trial, budget, which):
    assert columns(trial, budget, 3).tolist() == which


def test_a_memory_is_trained_for_the_steps_of_the_run_and_read_back(tmp_path):
    family = make_family("cartpole")  # whose episodes are of any length
    cfg = small("cartpole", "rl2", trial=2, tasks=4, episodes=2, epochs=1, lr_decay=True)
    state = train_recurrent(cfg, family, 800)
    an_iteration = state.env_steps / state.iteration
    assert 800 <= state.env_steps < 800 + 3 * an_iteration
    assert state.iteration > 3
    save_checkpoint(tmp_path, cfg.family, state)
    result = evaluate_recurrent(cfg, family, tmp_path, "test", 3, 4, seed=1)
    assert result.returns.shape == (3, 2)
