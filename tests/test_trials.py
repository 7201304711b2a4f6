"""PPO over trials against definitions that go trial by trial and step by step."""

import dataclasses

import numpy as np
import pytest
import torch
from agents_reference import Walk, gradient, random_params
from test_memory import B, N, T, gen, steps_of, tasks, walk_through
from torch.testing import assert_close
from waiting import CountWaits

from metarl.agents.learners.recurrent_agent import MemoryAgent
from metarl.agents.networks.recurrent_policy import MemoryPolicy, recurrent_forward
from metarl.config.settings import TrainConfig
from metarl.envs import make_family, sample_tasks
from metarl.envs.bandits.bandit import Bandit
from metarl.outer.recurrent_ppo import (
    collect_trials,
    improve,
    make_trials,
    split,
    trial_gae,
    trial_loss,
)
from metarl.training.new_agent import new_agent

CFG = TrainConfig(
    memory="gru",
    outer="ppo",
    trial=2,
    tasks=N,
    episodes=B,
    gamma=0.9,
    gae_lambda=0.7,
    clip=0.2,
    entropy=0.05,
)

every_cell = pytest.mark.parametrize("cell", ["gru", "fwp"])
every_action = pytest.mark.parametrize("discrete", [False, True, "several"])


def played(cell="gru", discrete=True):
    family = Walk(discrete=discrete)
    policy = MemoryPolicy(family.observation_space, family.action_space, cell, 16)
    params = {k: p.float() for k, p in random_params(policy, gen(9)).items()}
    agent = MemoryAgent(policy, params)
    return agent, collect_trials(CFG, agent, family, tasks(), gen())


def reach():
    """What a reward of 1 in every step of the longest trial is worth at its start."""
    return sum(CFG.gamma**t for t in range(2 * T))


def gae_of_a_trial(rew, val, gamma, lam):
    """A_t = sum_l (gamma lam)^l delta_{t + l} over the rest of the trial; 0 is what follows it."""
    val = [*val, 0.0]
    deltas = [r + gamma * val[t + 1] - val[t] for t, r in enumerate(rew)]
    return [
        sum((gamma * lam) ** (j - t) * deltas[j] for j in range(t, len(rew)))
        for t in range(len(rew))
    ]


def test_gae_of_padded_trials_is_that_of_each_alone():
    counts, steps = [7, 4, 1], 7
    mask = (torch.arange(steps).unsqueeze(1) < torch.tensor(counts)).double()
    rew, val = (torch.randn(steps, 3, generator=gen(s)).double() for s in (0, 1))
    got = trial_gae(rew * mask, val, mask, 0.9, 0.7)
    for m, count in enumerate(counts):
        want = gae_of_a_trial(rew[:count, m].tolist(), val[:count, m].tolist(), 0.9, 0.7)
        assert_close(got[:, m].tolist(), want + [0.0] * (steps - count))


@every_cell
@every_action
def test_advantages_reach_over_the_end_of_an_episode_and_not_of_the_trial(cell, discrete):
    agent, data = played(cell, discrete)
    trials = make_trials(CFG, agent, T, [data])
    raw, ret = [], []
    for n, b in np.ndindex(N, B):
        rew = [r.item() for _, _, r in steps_of(discrete, data, n, b)]
        val = (reach() * walk_through(agent, discrete, data, n, b)[1]).tolist()
        raw.append(gae_of_a_trial(rew, val, CFG.gamma, CFG.gae_lambda))
        ret.append([a + v for a, v in zip(raw[-1], val, strict=True)])
    every = np.concatenate(raw)
    for m in range(N * B):
        count = len(raw[m])
        want = (np.array(raw[m]) - every.mean()) / every.std()
        assert_close(trials.adv[:count, m].numpy(), want.astype(np.float32), rtol=1e-3, atol=1e-4)
        assert_close(trials.ret[:count, m].tolist(), ret[m], rtol=1e-3, atol=1e-3)
        assert (trials.adv[count:, m] == 0).all()
    assert_close(trials.spread.item(), np.concatenate(ret).std(), rtol=1e-3, atol=0)


@every_cell
def test_the_loss_and_its_gradient_are_those_of_the_formula(cell):
    """Of weights that moved, by walking through each trial; clipping is at work on both sides."""
    agent, data = played(cell)
    trials = make_trials(CFG, agent, T, [data])
    moved = {
        k: p + 0.2 * torch.randn(p.shape, generator=gen(i))
        for i, (k, p) in enumerate(agent.params.items())
    }
    clipped = []

    def by_definition(params):
        terms = []
        for m, (n, b) in enumerate(np.ndindex(N, B)):
            mover = dataclasses.replace(agent, params=params)
            logp, val, _ = walk_through(mover, True, data, n, b)
            logits = agent_logits(mover, data, n, b)
            for t in range(len(logp)):
                ratio = (logp[t] - trials.steps.logp[t, m]).exp()
                adv, ret = trials.adv[t, m], trials.ret[t, m]
                clipped.append(int(ratio > 1.2) - int(ratio < 0.8))
                gain = torch.minimum(ratio * adv, ratio.clamp(0.8, 1.2) * adv)
                p = logits[t].softmax(-1)
                entropy = -(p * p.log()).sum()
                missed = ((reach() * val[t] - ret) / trials.spread).square()
                terms.append(-gain + CFG.value_weight * missed - CFG.entropy * entropy)
        return torch.stack(terms).mean()

    def got(params):
        return trial_loss(CFG, agent.policy, params, trials)[0]

    assert_close(got(moved), by_definition(moved), rtol=1e-4, atol=1e-5)
    assert {-1, 0, 1} <= set(clipped)
    assert_close(gradient(got, moved), gradient(by_definition, moved), rtol=1e-3, atol=1e-4)


def agent_logits(agent, data, n, b):
    """Logits of each valid step of one trial."""
    state, logits = torch.zeros(1, 1, *agent.policy.cell.state_shape), []
    for x, _, _ in steps_of(True, data, n, b):
        dist, _, state = recurrent_forward(agent.policy, agent.params, x.view(1, 1, -1), state)
        logits.append(dist.logits[0, 0])
    return logits


def test_kl_and_entropy_of_the_collecting_weights():
    agent, data = played()
    trials = make_trials(CFG, agent, T, [data])
    _, kl, entropy = trial_loss(CFG, agent.policy, agent.params, trials)
    assert_close(kl, torch.zeros(()), rtol=0, atol=1e-5)
    each = [
        -(p * p.log()).sum()
        for n, b in np.ndindex(N, B)
        for p in (x.softmax(-1) for x in agent_logits(agent, data, n, b))
    ]
    assert_close(entropy, torch.stack(each).mean())
    moved = {k: 1.5 * p for k, p in agent.params.items()}
    assert trial_loss(CFG, agent.policy, moved, trials)[1] > 0.01


def test_minibatches_hold_each_trial_once():
    agent, data = played()
    trials = make_trials(CFG, agent, T, [data])
    parts = split(trials, 4, gen())
    assert [p.adv.shape[1] for p in parts] == [2, 2, 1, 1]
    x, ret, logits = (
        torch.cat(same, dim=1)
        for same in zip(*((p.steps.x, p.ret, p.steps.dist.logits) for p in parts), strict=True)
    )
    every = range(N * B)
    order = [next(m for m in every if torch.equal(x[:, i], trials.steps.x[:, m])) for i in every]
    assert sorted(order) == list(every) != order
    assert_close((ret, logits), (trials.ret[:, order], trials.steps.dist.logits[:, order]))


def part(episode, tasks, steps):
    """Some tasks of a rollout, and its first steps."""
    dist = type(episode.dist)(*(x[tasks, :steps] if x.dim() > 2 else x for x in episode.dist))
    return episode._replace(
        **{k: getattr(episode, k)[tasks, :steps] for k in episode._fields[:5]}, dist=dist
    )


@every_action
def test_chunks_of_tasks_stand_side_by_side(discrete):
    """Those of the first task stop after 2 steps, as a simulator may that knows all is over."""
    agent, data = played(discrete=discrete)
    whole = make_trials(CFG, agent, T, [data])
    steps = (2, T, T)
    cut = [[part(e, slice(i, i + 1), steps[i]) for e in data] for i in range(N)]
    parts = make_trials(CFG, agent, T, cut)
    mask = whole.steps.mask > 0
    assert torch.equal(parts.steps.mask, whole.steps.mask)
    for got, want in (
        (parts.steps.x, whole.steps.x),
        (parts.steps.dist[0], whole.steps.dist[0]),
        (parts.adv, whole.adv),
        (parts.ret, whole.ret),
    ):
        assert_close(got[mask], want[mask], rtol=1e-4, atol=1e-5)


def update(cfg, agent, opt, seed=0):
    family = make_family("bandit")
    return improve(cfg, agent, opt, family, sample_tasks(family, cfg.tasks, gen(5)), gen(seed))


BANDIT = dataclasses.replace(CFG, hidden=(8,), trial=1, tasks=4, epochs=2, minibatches=3)


def test_an_update_moves_all_weights_and_keeps_what_it_needs_to_go_on():
    agent = new_agent(BANDIT, make_family("bandit"))
    marks = []
    family = make_family("bandit")
    task = sample_tasks(family, 4, gen(5))
    one = improve(BANDIT, agent, {}, family, task, gen(), marks.append)
    assert marks == ["rollout", "outer"]
    assert one.weights.keys() == {f"params/{k}" for k in agent.params}
    assert set(one.metrics) == {"train/meta_loss", "train/grad_norm", "train/kl", "train/entropy"}
    assert all(x.dim() == 0 for x in one.metrics.values())
    for k, p in agent.params.items():
        assert not torch.equal(one.weights[f"params/{k}"], p), k
        assert one.opt[f"params/{k}/step"] == 6
    assert [(len(t[0]), len(r), r[0].rew.shape) for t, r in one.collected] == [(4, 1, (4, 10, B))]
    same, other = update(BANDIT, agent, {}), update(BANDIT, agent, {}, seed=1)
    assert_close(one.weights, same.weights, rtol=0, atol=0)
    assert not torch.equal(one.weights["params/critic.bias"], other.weights["params/critic.bias"])
    before = {k: v.clone() for k, v in one.opt.items()}
    params = {k.removeprefix("params/"): w for k, w in one.weights.items()}
    two = update(BANDIT, dataclasses.replace(agent, params=params), one.opt)
    assert two.opt["params/critic.bias/step"] == 12
    assert_close(one.opt, before, rtol=0, atol=0)


@every_cell
def test_an_update_is_adam_over_clipped_gradients_of_minibatches(cell):
    """Source: Kingma and Ba 2015 (arXiv:1412.6980), algorithm 1."""
    cfg = dataclasses.replace(BANDIT, memory=cell, max_grad_norm=0.1)
    family = make_family("bandit")
    agent, task = new_agent(cfg, family), sample_tasks(family, 4, gen(5))
    got, stream = update(cfg, agent, {}), gen()
    trials = make_trials(cfg, agent, 10, [collect_trials(cfg, agent, family, task, stream)])
    params = dict(agent.params)
    m, v = ({k: torch.zeros_like(p) for k, p in params.items()} for _ in range(2))
    t, norms = 0, []
    for _ in range(cfg.epochs):
        for few in split(trials, cfg.minibatches, stream):
            grad = gradient(lambda w, few=few: trial_loss(cfg, agent.policy, w, few)[0], params)
            norms.append(torch.stack([g.square().sum() for g in grad.values()]).sum().sqrt())
            t += 1
            for k, g in grad.items():
                g = g * min(1.0, cfg.max_grad_norm / norms[-1].item())
                m[k], v[k] = 0.9 * m[k] + 0.1 * g, 0.999 * v[k] + 0.001 * g**2
                step = m[k] / (1 - 0.9**t) / ((v[k] / (1 - 0.999**t)).sqrt() + 1e-8)
                params[k] = params[k] - cfg.meta_lr * step
    assert min(norms) > cfg.max_grad_norm
    assert_close(got.metrics["train/grad_norm"], torch.stack(norms).mean(), rtol=1e-3, atol=0)
    for k, p in params.items():
        assert_close(got.weights[f"params/{k}"], p, rtol=1e-3, atol=2e-5)


def test_new_trials_start_from_nothing_whatever_the_agent_remembers():
    agent = new_agent(BANDIT, make_family("bandit"))
    family, task = make_family("bandit"), sample_tasks(make_family("bandit"), 4, gen(5))
    wise = agent.adapt(family, task, 2, B, gen(3))
    one, other = update(BANDIT, agent, {}), update(BANDIT, wise, {})
    assert_close(one.weights, other.weights, rtol=0, atol=0)


@every_cell
def test_an_update_does_not_wait_for_the_device(cell):
    cfg = dataclasses.replace(BANDIT, memory=cell, trial=2)
    agent = new_agent(cfg, make_family("bandit"))
    first = update(cfg, agent, {})
    with CountWaits() as count:
        update(cfg, agent, first.opt)
    assert count.waits == []


def trained(family, cfg):
    agent, opt = new_agent(cfg, family), {}
    for it in range(cfg.iterations):
        task = sample_tasks(family, cfg.tasks, gen(1000 + it))
        done = improve(cfg, agent, opt, family, task, gen(it))
        params = {k.removeprefix("params/"): w for k, w in done.weights.items()}
        agent, opt = dataclasses.replace(agent, params=params), done.opt
    return agent


@pytest.mark.learning
@every_cell
def test_a_memory_learns_which_of_two_arms_pays(cell):
    """Chance gets 5.0 of 10 pulls, who always pulls the better arm 6.67."""
    family = Bandit(arms=2)
    cfg = TrainConfig(
        memory=cell,
        outer="ppo",
        trial=1,
        tasks=200,
        episodes=2,
        task_chunk=200,
        hidden=(32,),
        iterations=80,
        meta_lr=3e-3,
        clip=0.2,
        gamma=0.95,
        gae_lambda=0.9,
        epochs=4,
        value_weight=0.1,
    )
    agent = trained(family, cfg)
    data = agent.play(family, sample_tasks(family, 5000, gen(77), "test"), 1, gen(78))
    assert data.episode_return().mean() > 5.9
