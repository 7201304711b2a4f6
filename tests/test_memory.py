"""Memory agents against cells and trials that go step by step, as they are defined."""

import dataclasses

import numpy as np
import pytest
import torch
from agents_reference import POISON, Walk, directional_difference, gradient, random_params
from gymnasium.spaces import Box, Discrete
from torch.testing import assert_close

from metarl.agents.learners.recurrent_agent import MemoryAgent, pack_episodes
from metarl.agents.networks.distributions import Categorical
from metarl.agents.networks.policy import MLP, act_dist
from metarl.agents.networks.recurrent_cells import CHUNK, delta_rule
from metarl.agents.networks.recurrent_policy import MemoryPolicy, recurrent_forward
from metarl.agents.rollouts.rollout import collect, collect_by
from metarl.envs import TensorSimulator, UsageError, make_family, sample_tasks
from metarl.evaluation.evaluate import evaluate

N, B, T = 3, 2, 6
LENGTHS = ((1, 2), (4, 5), (6, 6))  # steps of two episodes in each of three tasks; 6 is the clock

every_cell = pytest.mark.parametrize("cell", ["gru", "fwp"])
every_action = pytest.mark.parametrize("discrete", [False, True, "several"])


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def tasks():
    return Walk.task_type(torch.tensor([[1.0], [4.0], [99.0]]))


def new_agent(cell="gru", discrete=True, units=16):
    family = Walk(discrete=discrete)
    policy = MemoryPolicy(family.observation_space, family.action_space, cell, units)
    params = {k: p.float() for k, p in random_params(policy, gen(9)).items()}
    return family, MemoryAgent(policy, params)


def trial(cell="gru", discrete=True, episodes=2):
    """An agent before each of so many episodes, and after the last; the episodes."""
    family, agent = new_agent(cell, discrete)
    agents, data = [agent], []
    for episode in range(episodes):
        data.append(agents[-1].play(family, tasks(), B, gen(episode)))
        agents.append(agents[-1].learn(data[-1]))
    return agents, data


def as_double(policy, params):
    return policy.double(), {k: p.double() for k, p in params.items()}


def numbers(discrete, act):
    """One action as the network sees it."""
    if discrete == "several":  # three keys, two keys and a place that stays empty
        return torch.cat((torch.eye(3)[act[0]], torch.eye(3)[act[1]]))
    return torch.eye(3)[act] if discrete else act / 0.5


def steps_of(discrete, data, n, b):
    """Valid steps of one trial in order: what the network sees, and the action."""
    last = torch.zeros({True: 3, False: 2, "several": 6}[discrete] + 1)
    for episode in data:
        for t in range(int(episode.mask[n, :, b].sum())):
            obs, act, rew = episode.obs[n, t, b], episode.act[n, t, b], episode.rew[n, t, b]
            yield torch.cat((obs, last, torch.tensor([float(t == 0)]))), act, rew
            last = torch.cat((numbers(discrete, act), rew.view(1)))


def walk_through(agent, discrete, data, n, b):
    """Log-probabilities, values and last state of one trial, a step at a time from nothing."""
    state, logp, val = torch.zeros(1, 1, *agent.policy.cell.state_shape), [], []
    for x, act, _ in steps_of(discrete, data, n, b):
        dist, v, state = recurrent_forward(agent.policy, agent.params, x.view(1, 1, -1), state)
        logp.append(dist.log_prob(act.view(1, 1, *act.shape)))
        val.append(v)
    return torch.cat(logp).flatten(), torch.cat(val).flatten(), state[0, 0]


@every_cell
@pytest.mark.parametrize("units", [7, 32])
def test_a_sequence_is_its_steps_one_by_one(cell, units):
    policy = MemoryPolicy(Box(-1, 1, (3,)), Discrete(2), cell, units)
    policy, params = as_double(policy, random_params(policy, gen()))
    steps, counts = CHUNK + 9, torch.tensor([CHUNK + 9, CHUNK, 1, 0])
    x = torch.randn(steps, 4, 7, generator=gen(1)).double()
    state = torch.randn(4, *policy.cell.state_shape, generator=gen(2)).double()
    mask = (torch.arange(steps).unsqueeze(1) < counts).double()
    dist, val, last = recurrent_forward(policy, params, x, state, mask)
    for m, count in enumerate(counts):
        own = state[m].view(1, 1, -1)
        for t in range(count):
            one, v, own = recurrent_forward(policy, params, x[t, m].view(1, 1, -1), own)
            assert_close((dist.logits[t, m], val[t, m]), (one.logits[0, 0], v[0, 0]))
        assert_close(last[m], own[0, 0])


def test_the_delta_rule_moves_the_value_at_a_key_towards_the_new_one():
    """Number by number, from Schlag et al. 2021 (arXiv:2102.11174), section 4.2."""
    m, heads, steps, size = 2, 2, 5, 3

    def draw(seed, *shape):
        return torch.randn(m, heads, *shape, generator=gen(seed)).double()

    weight, beta = draw(0, size, size), draw(1, steps).sigmoid()
    key, query, value = (draw(seed, steps, size) for seed in (2, 3, 4))
    read, last = delta_rule(weight, key, query, value, beta)
    for i, h in np.ndindex(m, heads):
        w = weight[i, h].tolist()
        for t in range(steps):
            k, q, v = (x[i, h, t].tolist() for x in (key, query, value))
            for row in range(size):
                old = sum(w[row][c] * k[c] for c in range(size))
                for c in range(size):
                    w[row][c] += beta[i, h, t].item() * (v[row] - old) * k[c]
            want = [sum(w[row][c] * q[c] for c in range(size)) for row in range(size)]
            assert_close(read[i, h, t], torch.tensor(want).double())
        assert_close(last[i, h], torch.tensor(w).double())


@every_cell
def test_a_value_that_is_stored_is_read_at_its_key_alone(cell):
    """With strength 1 and keys at right angles the delta rule is a table."""
    eye = torch.eye(4).double().view(1, 1, 4, 4)
    value = torch.randn(1, 1, 4, 4, generator=gen()).double()
    read, _ = delta_rule(torch.zeros_like(eye), eye, eye, value, torch.ones(1, 1, 4).double())
    assert_close(read, value)


@every_cell
@every_action
def test_the_network_sees_the_last_step_and_where_episodes_begin(cell, discrete):
    agents, data = trial(cell, discrete)
    policy = agents[0].policy
    steps = pack_episodes(policy, data, agents[0].hidden_state_for(N, B))
    for m, (n, b) in enumerate(np.ndindex(N, B)):
        want = torch.stack([x for x, _, _ in steps_of(discrete, data, n, b)])
        assert_close(steps.x[: len(want), m], want, rtol=0, atol=0)
        assert steps.mask[:, m].tolist() == [1.0] * len(want) + [0.0] * (2 * T - len(want))
        logp, _, _ = walk_through(agents[0], discrete, data, n, b)
        assert_close(steps.logp[: len(want), m], logp, rtol=1e-4, atol=1e-5)
        got = type(steps.dist)(*(x[:, m] if x.dim() > 1 else x for x in steps.dist))
        assert_close(got.log_prob(steps.act[:, m])[: len(want)], logp, rtol=1e-4, atol=1e-5)


@every_cell
@every_action
def test_to_learn_what_was_played_is_to_go_on(cell, discrete):
    """The state after two episodes of different lengths is that of stepping through both."""
    agents, data = trial(cell, discrete)
    for n, b in np.ndindex(N, B):
        _, _, state = walk_through(agents[0], discrete, data, n, b)
        assert_close(agents[-1].memory.state[n, b], state, rtol=1e-4, atol=1e-5)
        *_, (_, act, rew) = steps_of(discrete, data, n, b)
        assert_close(agents[-1].memory.act[n, b], numbers(discrete, act))
        assert_close(agents[-1].memory.rew[n, b], rew)


@every_cell
def test_padding_does_not_touch_the_memory(cell):
    agents, data = trial(cell)
    dead = data[0].mask == 0
    obs, rew, act = data[0].obs.clone(), data[0].rew.clone(), data[0].act.clone()
    obs[dead], rew[dead], act[dead] = POISON, POISON, 2
    again = agents[0].learn(data[0]._replace(obs=obs, rew=rew, act=act))
    assert_close(tuple(again.memory), tuple(agents[1].memory), rtol=0, atol=0)


@every_cell
def test_the_state_survives_the_end_of_an_episode_and_not_of_a_trial(cell):
    agents, data = trial(cell)
    family, fresh = new_agent(cell)
    assert not fresh.adapted
    assert agents[1].adapted
    changed = fresh.learn(data[0]._replace(rew=data[0].rew + data[0].mask))
    played = [a.play(family, tasks(), B, gen(1)).dist.logits for a in (agents[1], changed, fresh)]
    for other in played[1:]:  # the second episode shows what the first one paid, if there was one
        assert (played[0] - other).abs().amax((1, 3)).min() > 1e-4
    new_trial = dataclasses.replace(agents[2], memory=None)
    again = new_trial.play(family, tasks(), B, gen(0))
    assert_close(tuple(again[:5]), tuple(data[0][:5]), rtol=0, atol=0)


@every_cell
def test_trials_do_not_feel_each_other(cell):
    agents, data = trial(cell)
    rew = data[0].rew.clone()
    rew[1, 0, 0] += 1
    other, state = agents[0].learn(data[0]._replace(rew=rew)).memory.state, agents[1].memory.state
    same = torch.tensor([[True, True], [False, True], [True, True]])
    assert_close(other[same], state[same], rtol=0, atol=1e-6)
    assert (other[1, 0] - state[1, 0]).abs().max() > 1e-4


@every_cell
def test_the_gradient_goes_back_through_time_and_the_end_of_an_episode(cell):
    """What the last step of episode two expects, by finite differences in every weight at once."""
    agents, data = trial(cell)
    policy, params = as_double(agents[0].policy, agents[0].params)
    doubled = [
        e._replace(**{k: getattr(e, k).double() for k in ("obs", "rew", "mask")}) for e in data
    ]
    start = MemoryAgent(policy, params).hidden_state_for(N, B)
    steps = pack_episodes(policy, doubled, start)
    mine = steps.x.requires_grad_()
    pick = torch.randn(*steps.rew.shape, 3, generator=gen(3)).double() * steps.mask.unsqueeze(-1)
    pick[: LENGTHS[0][0]] = 0

    def f(weights):
        dist, val, _ = recurrent_forward(
            policy, weights, mine, start.state.flatten(0, 1), steps.mask
        )
        return (dist.logits * pick).sum() + (val * pick[..., 0]).sum()

    grad = gradient(f, params)
    for seed in range(3):
        step = {k: 1e-5 * torch.randn(p.shape, generator=gen(seed)) for k, p in params.items()}
        want = directional_difference(f, params, step)
        got = sum((grad[k] * s).sum() for k, s in step.items())
        assert_close(got, want, rtol=1e-6, atol=1e-12)
    for k in params:
        assert grad[k].abs().max() > 0, k
    last_only = recurrent_forward(policy, params, mine, start.state.flatten(0, 1), steps.mask)[1][
        7, 4
    ]
    (through_time,) = torch.autograd.grad(last_only, mine)
    assert (through_time[:8, 4].abs().amax(-1) > 0).all()  # trial 4: two episodes of 6 steps
    assert (through_time[8:] == 0).all()


@every_action
def test_a_policy_without_memory_plays_as_in_a_plain_loop(discrete):
    family = Walk(discrete=discrete)
    policy = MLP(family.observation_space, family.action_space, (4,))
    params = {k: p.float() for k, p in random_params(policy, gen(9)).items()}
    got = collect(policy, params, family, tasks(), B, gen())
    stream = gen()
    simulator = TensorSimulator(family, tasks(), B, stream)
    obs = simulator.reset()
    noise = act_dist(policy, params, obs).noise(T, gen=stream)
    mask = torch.ones(N, B, dtype=torch.bool)
    for t in range(T):
        dist = act_dist(policy, params, obs)
        act = dist.sample(noise[t])
        nxt, rew, terminated, _ = simulator.step(act)
        for field, want in (("obs", obs), ("act", act), ("rew", rew)):
            assert_close(getattr(got, field)[:, t][mask], want[mask], rtol=0, atol=0)
        assert_close(got.dist[0][:, t][mask], dist[0][mask], rtol=0, atol=0)
        assert_close(got.mask[:, t], mask.float())
        obs, mask = nxt, mask & ~terminated


def test_an_actor_is_told_what_it_just_did_and_got():
    family, told = Walk(discrete=True), []

    def actor(obs, last):
        told.append(last)
        return Categorical(torch.zeros(*obs.shape[:2], 3))

    data = collect_by(actor, family, tasks(), B, gen())
    assert len(told) == T
    assert told[0] is None
    for t, last in enumerate(told[1:]):
        valid = data.mask[:, t] > 0
        assert_close(last.act[valid], data.act[:, t][valid])
        assert_close(last.rew[valid], data.rew[:, t][valid])


@every_cell
def test_actions_outside_an_episode_are_its_first(cell):
    agents, data = trial(cell)
    obs = data[0].obs[:, 0]
    for agent, episode in zip(agents, data, strict=False):
        got = agent.act(episode.obs[:, 0], gen(7))
        want = Categorical(episode.dist.logits[:, 0])
        assert_close(got, want.sample(want.noise(gen=gen(7))))
    fewer = agents[1].act(obs[:, :1], gen(7))
    assert fewer.shape == (N, 1)


def test_more_trials_than_are_under_way_are_refused():
    agents, _ = trial()
    family = Walk(discrete=True)
    with pytest.raises(
        UsageError, match=r"hidden state of 3 x 2 trials: give 3 tasks and at most 2"
    ):
        agents[1].play(family, tasks(), B + 1)
    assert agents[1].play(family, tasks(), 1, gen(1)).rew.shape == (N, T, 1)


@every_cell
def test_evaluation_shows_the_episodes_of_a_trial_in_turn(cell):
    family, agent = make_family("bandit"), None
    policy = MemoryPolicy(family.observation_space, family.action_space, cell, 8)
    agent = MemoryAgent(policy, policy.initial(gen()))
    result = evaluate(agent, family, tasks=3, episodes=2, steps=2, chunk=2)
    assert result.returns.shape == (3, 3)
    task = sample_tasks(family, 3, gen())
    stepped = agent.adapt(family, task, 2, 2, gen(1))
    stream = gen(1)
    by_hand = agent.learn(agent.play(family, task, 2, stream))
    by_hand = by_hand.learn(by_hand.play(family, task, 2, stream))
    assert_close(tuple(stepped.memory), tuple(by_hand.memory), rtol=0, atol=0)
    assert stepped.to("cpu").adapted


@every_cell
def test_first_weights_are_orthogonal_and_the_first_policy_near_uniform(cell):
    policy = MemoryPolicy(Box(-1, 1, (3,)), Discrete(4), cell, 32)
    params = policy.initial(gen())
    assert_close(params, policy.initial(gen()), rtol=0, atol=0)
    assert params.keys() == dict(policy.named_parameters()).keys()
    blocks = [
        b for k, p in params.items() if k.endswith("weight") and "cell" in k for b in p.split(32)
    ]
    for block in blocks:
        gram = block @ block.T if len(block) <= block.shape[1] else block.T @ block
        assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-5)
    x = torch.randn(5, 2, 9, generator=gen(1))
    state = torch.zeros(2, *policy.cell.state_shape)
    dist, _, _ = recurrent_forward(policy, params, x, state, torch.ones(5, 2))
    assert dist.logits.softmax(-1).sub(0.25).abs().max() < 0.05
