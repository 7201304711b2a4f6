"""Whole episodes: masks, padding, stored distributions and randomness."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from agents_reference import Walk, living_steps
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from metarl.agents.networks.policy import MLP, act_dist
from metarl.agents.rollouts import rollout
from metarl.agents.rollouts.rollout import check_finite, collect
from metarl.envs import RunError, TensorSimulator

LENGTHS = ((1, 2), (4, 5), (6, 6))  # steps of two episodes in each of three tasks; 6 is the clock
N, T, B = 3, 6, 2


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def tasks():
    return Walk.task_type(torch.tensor([[1.0], [4.0], [99.0]]))


def play(discrete=False, own_weights=False, seed=0, family=None):
    family = family or Walk(discrete=discrete)
    policy = MLP(family.observation_space, family.action_space, (4,))
    lead = (N,) if own_weights else ()
    params = {
        k: (0.5 * torch.randn(*lead, *p.shape, generator=gen(9))).requires_grad_()
        for k, p in policy.named_parameters()
    }
    return policy, params, collect(policy, params, family, tasks(), B, gen(seed))


every_policy = pytest.mark.parametrize("discrete", [False, True, "several"])
every_weights = pytest.mark.parametrize("own_weights", [False, True])


@every_policy
def test_alive_is_one_up_to_and_with_the_last_step(discrete):
    _, _, data = play(discrete)
    assert_close(data.mask, living_steps(LENGTHS, T).float())


@every_policy
def test_padding_is_exactly_zero_whatever_the_family_gives(discrete):
    _, _, data = play(discrete)
    padding = data.mask == 0
    for name in ("obs", "act", "logp", "rew"):
        x = getattr(data, name)
        assert torch.isfinite(x).all(), name
        assert (x[padding] == 0).all(), name
        assert (x[~padding] != 0).any(), name
    assert (data.dist[0][padding] == 0).all()
    assert torch.isfinite(data.dist[0]).all()


@every_policy
def test_shapes_and_types(discrete):
    _, _, data = play(discrete)
    assert data.obs.shape == (N, T, B, 2)
    assert data.act.shape == ((N, T, B) if discrete is True else (N, T, B, 2))
    assert data.logp.shape == data.rew.shape == data.mask.shape == (N, T, B)
    assert data.act.dtype == (torch.int64 if discrete else torch.float32)
    assert not any(x.requires_grad for x in (*data[:5], *data.dist))


@every_weights
@every_policy
def test_logp_is_the_log_probability_of_the_action_at_that_observation(discrete, own_weights):
    policy, params, data = play(discrete, own_weights)
    for t in range(T):
        want = act_dist(policy, params, data.obs[:, t]).log_prob(data.act[:, t])
        assert_close(data.logp[:, t], want * data.mask[:, t])


@every_weights
@every_policy
def test_the_stored_distribution_gives_the_stored_logp(discrete, own_weights):
    _, _, data = play(discrete, own_weights)
    logp = data.dist.log_prob(data.act)
    assert logp.shape == data.logp.shape
    assert_close(logp * data.mask, data.logp)


@every_policy
def test_the_same_generator_gives_the_same_rollout(discrete):
    (_, _, one), (_, _, same), (_, _, other) = (play(discrete, seed=s) for s in (0, 0, 1))
    assert_close(tuple(one), tuple(same), rtol=0, atol=0)
    assert not torch.equal(one.obs[:, 0], other.obs[:, 0])
    assert not torch.equal(one.act, other.act)


def test_episodes_follow_the_dynamics_of_the_family():
    """Observation t + 1 is observation t, the action and a noise in [0, 1)."""
    _, _, data = play()
    noise = data.obs[2, 1:] - data.obs[2, :-1] - data.act[2, :-1]
    assert ((noise > -1e-6) & (noise < 1)).all()
    assert_close(data.rew[2, :-1], data.obs[2, 1:].sum(-1))  # it is paid after the move


def test_a_task_does_not_feel_the_weights_of_another():
    policy, params, data = play(own_weights=True)
    moved = {k: p.clone() for k, p in params.items()}
    for p in moved.values():
        p[1] += 1.0
    again = collect(policy, moved, Walk(), tasks(), B, gen())
    assert_close(again.act[[0, 2]], data.act[[0, 2]], rtol=0, atol=0)
    assert not torch.allclose(again.act[1], data.act[1])


def test_the_return_of_an_episode_sums_its_living_steps():
    _, _, data = play()
    want = torch.zeros(N, B)
    for n, b in np.ndindex(N, B):
        for t in range(LENGTHS[n][b]):
            want[n, b] += data.rew[n, t, b]
    assert_close(data.episode_return(), want)


@dataclass(frozen=True)
class OwnSimulator(Walk):
    """The same walk by a simulator of its own, which may call the end a truncation."""

    truncates: bool = False

    def simulate(self, task, episodes, gen):
        simulator = TensorSimulator(self, task, episodes, gen)
        plain_step = simulator.step

        def step(act):
            obs, rew, terminated, truncated = plain_step(act)
            ends = (truncated, terminated) if self.truncates else (terminated, truncated)
            return obs, rew, *ends

        simulator.step = step
        return simulator


@pytest.mark.parametrize("truncates", [False, True])
def test_truncation_ends_an_episode_as_termination_does(truncates):
    _, _, want = play()
    _, _, data = play(family=OwnSimulator(truncates=truncates))
    assert_close(tuple(data), tuple(want), rtol=0, atol=0)


@every_policy
def test_each_step_has_noise_of_its_own(discrete):
    family = Walk(discrete=discrete)
    policy = MLP(family.observation_space, family.action_space, (4,))
    same_everywhere = {k: torch.zeros(p.shape) for k, p in policy.named_parameters()}
    act = collect(policy, same_everywhere, family, tasks(), B, gen()).act[2]
    assert len(act.unique()) == (3 if discrete else act.numel())


@every_policy
@pytest.mark.parametrize("horizon", [3, 9])
def test_noise_is_drawn_in_one_call_for_actions_and_one_for_the_world(discrete, horizon):
    draws = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if torch.Tag.nondeterministic_seeded in func.tags:
                draws.append(str(func))
            return func(*args, **(kwargs or {}))

    family = Walk(discrete=discrete, horizon=horizon)
    policy = MLP(family.observation_space, family.action_space, (4,))
    params = policy.initial(gen())
    with Watch():
        collect(policy, params, family, tasks(), B, gen())
    assert len(draws) == 2, draws


@dataclass(frozen=True)
class Generous(Walk):
    """The same walk by a simulator that knows when all is over, long before the time limit."""

    horizon: int = 10**12

    def simulate(self, task, episodes, gen):
        simulator = TensorSimulator(Walk(discrete=self.discrete, horizon=T), task, episodes, gen)
        simulator.over, steps, plain_step = False, iter(range(1, T + 1)), simulator.step

        def step(act):
            simulator.over = next(steps) == T
            return plain_step(act)

        simulator.step = step
        return simulator


@every_policy
def test_a_generous_time_limit_takes_no_memory(discrete, monkeypatch):
    """Noise for all of it would be 40 TB; it is drawn for two steps at a time here."""
    monkeypatch.setattr(rollout, "SOME", 2 * N * B)
    policy, params, data = play(discrete, family=Generous(discrete=discrete))
    assert data.mask.shape == (N, T, B)
    assert_close(data.mask, living_steps(LENGTHS, T).float())
    noise = (data.act - act_dist(policy, params, data.obs)[0])[2] if not discrete else None
    assert discrete or len(noise.unique()) == noise.numel()
    _, _, again = play(discrete, family=Generous(discrete=discrete))
    assert_close(tuple(again), tuple(data), rtol=0, atol=0)


@every_policy
def test_a_usual_time_limit_changes_no_random_number(discrete):
    _, _, want = play(discrete)
    _, _, data = play(discrete, family=Generous(discrete=discrete, horizon=T))
    assert_close(tuple(data), tuple(want), rtol=0, atol=0)


def test_a_rollout_that_does_not_fit_is_refused_with_its_size(monkeypatch):
    """One long episode pads all others to its length."""
    monkeypatch.setattr(rollout, "SOME", 2 * N * B)
    monkeypatch.setattr(rollout, "free_memory", lambda: 1000)
    message = r"walk: 3 tasks x 2 episodes, .* more than 2 steps, need .* kB of memory, but .* free"
    with pytest.raises(RunError, match=message):
        play(family=Generous())


@pytest.mark.parametrize(
    ("what", "value", "felt"), [("obs", float("nan"), 2), ("rew", float("inf"), 3)]
)
def test_a_number_that_is_not_finite_is_reported_where_it_first_came(what, value, felt):
    _, _, data = play()
    check_finite(Walk(), tasks(), data)  # padding that was NaN is no fault
    getattr(data, what)[1, 2:, 1] = value
    data.dist[0][1, felt:, 1] = value  # what the agent makes of it
    with pytest.raises(RunError, match="at step 2 of episode 1 with length=4"):
        check_finite(Walk(), tasks(), data)


def test_a_reward_for_an_action_that_was_not_finite_is_not_the_familys_fault():
    _, _, data = play()
    data.dist[0][1, 2:, 1] = data.rew[1, 2:, 1] = float("nan")
    check_finite(Walk(), tasks(), data)
