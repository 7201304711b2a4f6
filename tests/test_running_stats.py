"""Running moments of observations and returns: exact, frozen within an iteration, and saved."""

import dataclasses

import numpy as np
import pytest
import torch
from small import small
from torch.testing import assert_close

from metarl import RunConfig, load, open_run, start, train_in
from metarl.agents.networks.choose import make_policy
from metarl.agents.networks.cnn import CNN
from metarl.agents.networks.policy import act_dist
from metarl.agents.networks.recurrent_policy import MemoryPolicy
from metarl.agents.networks.running_stats import Moments, merge, moments, with_moments
from metarl.envs import UsageError, make_family
from metarl.outer import OUTER
from metarl.outer.train_state import RunningStats, named_weights
from metarl.training.meta_train import meta_train, new_agent

SIZE = {"tasks": 3, "episodes": 2, "iterations": 3}


def test_moments_are_those_of_all_living_steps():
    rng = np.random.default_rng(0)
    parts = [rng.normal(50, 3, (2, 5, 3, 4)).astype(np.float32) for _ in range(3)]
    mask = [(rng.random((2, 5, 3)) < 0.7).astype(np.float32) for _ in range(3)]
    seen = None
    for x, valid in zip(parts, mask, strict=True):
        poisoned = np.where(valid[..., None] > 0, x, 99.0)
        seen = merge(seen, moments(torch.as_tensor(poisoned), torch.as_tensor(valid)))
    every = np.concatenate([x[a > 0] for x, a in zip(parts, mask, strict=True)]).astype(float)
    np.testing.assert_allclose(seen.steps, len(every))
    np.testing.assert_allclose(seen.mean, every.mean(0), rtol=1e-12)
    np.testing.assert_allclose(seen.var, every.var(0), rtol=1e-9)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_a_policy_sees_what_is_centred_and_scaled(kind):
    family = make_family("breakout")
    policy = make_policy(family, kind, (8,), 0.0)
    params = policy.initial(torch.Generator().manual_seed(0))
    shape = family.observation_space.shape
    mean, var = torch.rand(shape).double(), 4 * torch.rand(shape).double() + 0.1
    var[0, 0, 0] = 0.0  # what never varied is centred alone
    std = torch.where(var > 0, var, 1.0).sqrt()
    obs = torch.rand(2, 3, *shape)
    seen = with_moments(policy, Moments(torch.tensor(5.0), mean, var))
    got = act_dist(seen, params, obs).logits
    want = act_dist(policy, params, ((obs - mean) / std).float()).logits
    assert_close(got, want, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(got, act_dist(policy, params, obs).logits)
    assert isinstance(policy, CNN) == (kind == "cnn")


def test_moments_move_after_the_iteration_and_hold_all_that_was_played(monkeypatch):
    cfg, family = small("cartpole", normalize_obs=True, **SIZE), make_family("cartpole")
    played, agents = [], []
    rule = OUTER[cfg.outer]

    def watched(now, agent, *rest):
        update = rule(now, agent, *rest)
        agents.append(agent)
        played.append([r for _, rollouts in update.collected for r in rollouts])
        return update

    monkeypatch.setitem(OUTER, cfg.outer, watched)
    states = list(meta_train(cfg, family))
    assert agents[0].policy.obs_mean is None
    seen = np.zeros((0, 4))
    for agent, rollouts, state in zip(agents[1:], played, states, strict=False):
        seen = np.concatenate([seen, *(r.obs[r.mask > 0].double().numpy() for r in rollouts)])
        np.testing.assert_allclose(agent.policy.obs_mean, seen.mean(0), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(agent.policy.obs_scale, 1 / seen.std(0), rtol=1e-4)
        assert state.running_stats.obs.steps == len(seen)
    for agent, rollouts in zip(agents, played, strict=True):
        before = rollouts[0]  # collected by the very policy whose gradient is taken
        again = act_dist(agent.policy, agent.params, before.obs.flatten(1, 2))
        logp = again.log_prob(before.act.flatten(1, 2)).view_as(before.logp)
        assert_close(logp * before.mask, before.logp, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("algo", "family"), [("promp", "cartpole"), ("rl2", "tabular-mdp")])
def test_resuming_equals_never_stopping(tmp_path, algo, family):
    cfg = small(family, algo, normalize_obs=True, normalize_return=algo == "rl2", **SIZE)
    about = RunConfig(threads=1, save_every=1, eval_every=100)
    whole = train_in(tmp_path / "whole", start(tmp_path / "whole", cfg, about))
    folder = tmp_path / "part"
    train_in(folder, start(folder, dataclasses.replace(cfg, iterations=2), about))
    job = open_run(folder)
    part = train_in(folder, dataclasses.replace(job, train=cfg))
    assert_close(named_weights(part.agent), named_weights(whole.agent), rtol=0, atol=0)
    assert_close(part.running_stats.obs, whole.running_stats.obs, rtol=0, atol=0)
    assert part.metrics == whole.metrics
    found = load(folder)
    assert_close(found.policy.obs_mean, whole.agent.policy.obs_mean, rtol=0, atol=0)
    assert_close(found.policy.obs_mean, whole.running_stats.obs.mean.float(), rtol=0, atol=0)
    if algo == "rl2":
        assert_close(part.running_stats.ret, whole.running_stats.ret, rtol=0, atol=0)
        assert_close(found.policy.rew_scale, whole.running_stats.ret.var.rsqrt().float())


def test_without_it_nothing_is_counted_or_changed():
    cfg, family = small("cartpole", **SIZE), make_family("cartpole")
    *_, state = meta_train(cfg, family)
    assert state.running_stats == RunningStats()
    assert not dict(state.agent.policy.named_buffers())


def test_a_world_in_other_units_is_the_same_once_it_is_normalised():
    """Observations of thousands: after the first iteration the normalised agents are as one."""
    family = make_family("cartpole")
    cfg = small("cartpole", normalize_obs=True, baseline="none", **SIZE)

    class Far(type(family)):
        def observe(self, state):
            return 1000 * super().observe(state)

    first = next(meta_train(cfg, family))
    seen = RunningStats(_times(first.running_stats.obs, 1000.0))
    agent = dataclasses.replace(first.agent, policy=with_moments(first.agent.policy, seen.obs))
    near = next(meta_train(cfg, family, first))
    away = next(meta_train(cfg, Far(), dataclasses.replace(first, agent=agent, running_stats=seen)))
    assert_close(named_weights(away.agent), named_weights(near.agent), rtol=1e-3, atol=1e-5)
    assert_close(
        away.running_stats.obs.mean, 1000 * near.running_stats.obs.mean, rtol=1e-4, atol=1e-2
    )


def _times(seen, factor):
    return Moments(seen.steps, factor * seen.mean, factor**2 * seen.var)


def test_a_memory_reads_rewards_in_units_of_the_returns_spread():
    family = make_family("bandit")
    policy = MemoryPolicy(family.observation_space, family.action_space)
    spread = Moments(torch.tensor(5.0), torch.tensor(1.0), torch.tensor(16.0).double())
    scaled = with_moments(policy, None, spread)
    obs, act, rew, first = (
        torch.zeros(2, 1),
        torch.zeros(2, 5),
        torch.tensor([8.0, -4.0]),
        torch.zeros(2),
    )
    assert_close(scaled.inputs(obs, act, rew, first), policy.inputs(obs, act, rew / 4, first))
    assert scaled.obs_mean is None


def test_a_scale_that_would_change_nothing_is_refused():
    with pytest.raises(UsageError, match=r"--normalize-return without --memory: .* leave it out"):
        new_agent(small("cartpole", normalize_return=True), make_family("cartpole"))
