"""Where nothing that was done made a difference, nothing is learned; a small difference counts."""

import dataclasses

import pytest
import torch
from small import small
from torch.testing import assert_close

from metarl.agents.networks.distributions import Categorical
from metarl.agents.networks.running_stats import merge, moments, scale
from metarl.agents.rollouts.advantages import advantages, linear_baseline, no_baseline
from metarl.agents.rollouts.rollout import Rollout
from metarl.envs import sample_tasks
from metarl.envs.bandits.bandit import Bandit
from metarl.outer.train_state import named_weights
from metarl.training.meta_train import meta_train, new_agent


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def rollout(rew, mask=None):
    """Episodes with these rewards (N, T, B), of an agent that sees different things in each."""
    mask = torch.ones_like(rew) if mask is None else mask
    obs = torch.randn(*rew.shape, 3, generator=gen(), dtype=rew.dtype) * mask.unsqueeze(-1)
    none = torch.zeros_like(rew)
    return Rollout(obs, none.long(), none, rew * mask, mask, Categorical(none.unsqueeze(-1)))


KINDS = pytest.mark.parametrize("kind", [torch.float32, torch.float64])
BASELINES = pytest.mark.parametrize("baseline", [linear_baseline, no_baseline])
GAMMAS = pytest.mark.parametrize("gamma", [0.0, 0.99, 1.0])


@KINDS
@BASELINES
@GAMMAS
@pytest.mark.parametrize("size", [1.0, 0.1, -1e6, 1e-20, 0.0])
@pytest.mark.parametrize("episodes", [1, 8])
def test_equal_rewards_give_no_advantage(kind, baseline, gamma, size, episodes):
    data = rollout(torch.full((2, 30, episodes), size, dtype=kind))
    assert (advantages(data, gamma, 0.95, baseline) == 0).all()


@KINDS
@BASELINES
def test_rewards_that_follow_the_clock_alone_give_no_advantage(kind, baseline):
    """What a baseline can't fit of them, here a wave in time, no action changed either."""
    t = torch.arange(30, dtype=kind).view(1, -1, 1)
    data = rollout((10 + t.sin()).expand(2, 30, 8).clone())
    assert (advantages(data, 0.9, 0.95, baseline) == 0).all()


@KINDS
def test_rounding_is_no_signal(kind):
    rew = torch.full((2, 30, 8), 1e6, dtype=kind)
    rew[:, ::3, ::2] *= 1 + torch.finfo(kind).eps
    assert rew.unique().numel() == 2
    assert (advantages(rollout(rew), 0.99, 0.95) == 0).all()


@KINDS
@GAMMAS
@pytest.mark.parametrize(
    ("middle", "size"), [(0.0, 1.0), (0.0, 1e-6), (0.0, 1e-30), (0.0, 1e25), (1000.0, 0.01)]
)
def test_a_small_signal_counts_as_a_large_one_does(kind, gamma, middle, size):
    """Advantages are those of rewards of 0 +- 1, however small or large the numbers."""
    noise = torch.randn(2, 10, 8, generator=gen(1), dtype=kind)
    got = advantages(rollout(middle + size * noise), gamma, 0.95, no_baseline)
    want = advantages(rollout(noise.double()), gamma, 0.95, no_baseline)
    if middle and gamma:  # returns fall with the time left: only what differs at a time compares
        got, want = (x.double() - x.double().mean(2, keepdim=True) for x in (got, want))
        got, want = (x / x.std((1, 2), keepdim=True) for x in (got, want))
    assert_close(got.double(), want, rtol=0, atol=0.05 if kind == torch.float32 else 1e-6)


def test_a_task_without_a_signal_leaves_the_others_theirs():
    rew = torch.randn(3, 10, 8, generator=gen(1))
    rew[1] = 0.3
    adv = advantages(rollout(rew), 0.9, 0.95)
    assert (adv[1] == 0).all()
    assert (adv[[0, 2]].std((1, 2)) > 0.9).all()


def test_how_long_an_episode_lasts_is_a_signal():
    mask = torch.ones(1, 10, 4)
    mask[:, 6:, 0] = 0
    adv = advantages(rollout(torch.ones(1, 10, 4), mask), 1.0, 1.0)
    assert (adv[0, 0, 0] < adv[0, 0, 1:]).all()


def test_a_single_step_gives_no_advantage():
    mask = torch.zeros(1, 10, 1)
    mask[:, 0] = 1
    assert (advantages(rollout(torch.full((1, 10, 1), 0.7), mask), 0.9, 0.95) == 0).all()


def all_arms_pay(family, n):
    task = sample_tasks(family, n, gen())
    return type(task)(*(torch.ones_like(x) for x in task))


@pytest.mark.parametrize("baseline", ["linear", "learned", "none"])
@pytest.mark.parametrize("gamma", [0.0, 0.9])
def test_an_inner_step_where_every_arm_pays_leaves_the_weights_to_the_bit(baseline, gamma):
    family = Bandit()
    agent = new_agent(small("bandit", baseline=baseline, gamma=gamma), family)
    task = all_arms_pay(family, 3)
    learned = agent.learn(agent.play(family, task, 20, gen(1)))
    for k, w in agent.params.items():
        assert torch.equal(learned.params[k], w.expand_as(learned.params[k])), k
    assert any(learned.params[k].dim() > w.dim() for k, w in agent.params.items())


@dataclasses.dataclass(frozen=True)
class Generous(Bandit):
    """Every arm pays the same."""

    pay: float = 1.0

    def step(self, state, act, task, noise):
        nxt, rew, over = super().step(state, act, task, noise)
        return nxt, torch.full_like(rew, self.pay), over


@pytest.mark.parametrize("pay", [1.0, 1e6])
@pytest.mark.parametrize(
    "algo", ["promp", "maml", "maml-trpo", "imaml", "e-maml", "es-maml", "reptile"]
)
def test_training_where_every_arm_pays_leaves_the_slow_weights(algo, pay):
    cfg, family = small("bandit", algo, iterations=1, gamma=0.9, inner_lr=1.0), Generous(pay=pay)
    before = named_weights(new_agent(cfg, family))
    (state,) = meta_train(cfg, family)
    assert state.skipped == 0
    # The KL that ProMP adds is 0 but for rounding, which Adam enlarges.
    atol = 1e-3 * cfg.meta_lr if algo == "promp" else 0
    assert_close(named_weights(state.agent), before, rtol=0, atol=atol)


def test_a_memory_agent_where_every_arm_pays_moves_only_by_its_critic():
    """Its policy's head gets no gradient; with entropy it would, since that is a wish."""
    cfg, family = small("bandit", "rl2", iterations=1, entropy=0.0), Generous(pay=1e6)
    before = new_agent(cfg, family).params
    (state,) = meta_train(cfg, family)
    moved = {k for k, w in state.agent.params.items() if not torch.equal(w, before[k])}
    assert "critic.weight" in moved
    assert not any(k.startswith("layers.") for k in moved), moved


@KINDS
def test_a_constant_observation_is_not_scaled_by_its_rounding(kind):
    x = torch.full((2, 10, 4, 2), 1e6, dtype=kind)
    x[:, ::2, ..., 0] *= 1 + torch.finfo(kind).eps
    x[..., 1] += torch.randn(x.shape[:-1], generator=gen(), dtype=kind)
    mask = torch.ones(x.shape[:3], dtype=kind)
    constant, varied = scale(merge(moments(x, mask), moments(x, mask)), kind)
    assert constant == 1
    assert 0.5 < varied < 2
