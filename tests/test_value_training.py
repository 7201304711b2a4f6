"""Meta-learned features of a baseline: they get better, and a run keeps them."""

import dataclasses
import itertools

import torch
from agents_reference import gradient
from gymnasium.spaces import Box
from small import small
from torch.testing import assert_close

from metarl.agents.networks.distributions import Categorical
from metarl.agents.rollouts.learned_baseline import FEATURES, initial_value, value_loss
from metarl.agents.rollouts.rollout import Rollout
from metarl.envs import make_family, sample_tasks
from metarl.experiment.checkpoint import load_checkpoint, save_checkpoint
from metarl.outer.functional_adam import adam
from metarl.outer.train_state import TrainState, named_weights
from metarl.outer.update import Update
from metarl.training.meta_train import _update_learned_baseline, meta_train, new_agent


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def curved(seed, n=4, steps=10, episodes=8):
    """Rewards that are curved in the observation, each task in its own direction."""
    shape = (n, steps, episodes)
    obs = torch.randn(*shape, 2, generator=gen(seed))
    way = torch.randn(n, 1, 1, 2, generator=gen(seed + 1))
    rew = (3 * obs).sin().mul(way).sum(-1)
    none = torch.zeros(shape)
    return Rollout(obs, none, none, rew, torch.ones(shape), Categorical(none.unsqueeze(-1)))


def test_features_that_are_trained_explain_more_of_new_tasks():
    """With 32 features for 80 steps, so that what counts is which features."""
    value = initial_value(Box(-9, 9, (2,)), gen())
    assert value["weight"].shape == (FEATURES, 2)
    new = [curved(1000 + s, episodes=50) for s in range(0, 20, 2)]

    def left(v):
        return torch.stack([value_loss(v, data, 0.0) for data in new]).mean()

    before, opt = left(value), {}
    for step in range(200):
        grads = gradient(lambda v, s=step: value_loss(v, curved(2 * s, episodes=50), 0.0), value)
        value, opt = adam(value, grads, opt, lambda name: 0.01)
    assert left(value) < 0.5 * before


def test_a_run_trains_the_features_and_they_explain_more_than_at_first():
    """On rollouts that no version was trained on."""
    world = make_family("pendulum")
    cfg = small("pendulum", baseline="learned", iterations=15, meta_lr=0.02, gamma=0.9)
    first = new_agent(cfg, world)
    *_, last = meta_train(cfg, world)
    task = sample_tasks(world, 4, gen(1))
    data = first.play(world, task, 4, gen(2))
    before, after = (value_loss(a.value, data, cfg.gamma) for a in (first, last.agent))
    assert after < before


def test_a_run_with_learned_features_resumes_bit_for_bit_from_its_checkpoint(tmp_path):
    world = make_family("point-navigation")
    cfg = small("point-navigation", baseline="learned", iterations=4)
    blank = TrainState(new_agent(cfg, world))
    whole = list(meta_train(cfg, world))
    save_checkpoint(tmp_path, cfg.family, whole[1])
    half = load_checkpoint(tmp_path, cfg, world, blank)
    assert_close(half.agent.value, whole[1].agent.value, rtol=0, atol=0)
    for name, w in blank.agent.value.items():
        assert not torch.equal(half.agent.value[name], w), name
        assert f"value/{name}/exp_avg" in half.opt
    *_, last = meta_train(cfg, world, half)
    assert_close(named_weights(last.agent), named_weights(whole[3].agent), rtol=0, atol=0)
    assert_close(last.opt, whole[3].opt, rtol=0, atol=0)
    assert last.metrics == whole[3].metrics
    # Both optimisers go on from one iteration to the next, and neither forgets the other's moments.
    assert last.opt["value/weight/step"] == cfg.iterations
    assert last.opt["params/layers.0.weight/step"] == cfg.iterations * cfg.epochs


def test_features_are_a_function_of_the_seed_and_there_only_for_a_learned_baseline():
    world = make_family("point-navigation")
    one, same, other = (
        new_agent(small("point-navigation", baseline="learned", seed=s), world).value
        for s in (0, 0, 1)
    )
    assert_close(one, same, rtol=0, atol=0)
    assert not torch.equal(one["weight"], other["weight"])
    for kind in ("linear", "none"):
        cfg = small("point-navigation", baseline=kind, iterations=1)
        (state,) = meta_train(cfg, world)
        assert state.agent.value == {}
        assert not any(k.startswith("value") for k in state.opt)


def rows(data, start, stop):
    """The rollout of some of the tasks, in float64."""
    tensors = {
        k: getattr(data, k)[start:stop].double() for k in ("obs", "act", "logp", "rew", "mask")
    }
    return data._replace(**tensors)


def test_tasks_in_chunks_train_the_features_as_all_at_once():
    """One step of Adam by the mean over all tasks, however many a chunk has.

    In float64: a ridge regression enlarges rounding, and that differs with the size of a batch on
    some CPUs.
    """
    world = make_family("point-navigation")
    cfg = small("point-navigation", baseline="learned")
    agent = new_agent(cfg, world)
    before, after = (agent.play(world, sample_tasks(world, 5, gen(s)), 3, gen(s)) for s in (1, 2))
    agent = dataclasses.replace(agent, value={k: w.double() for k, w in agent.value.items()})
    before, after = rows(before, 0, 5), rows(after, 0, 5)

    def moved(*cuts):
        played = [
            (None, [rows(before, a, b), rows(after, a, b)]) for a, b in itertools.pairwise(cuts)
        ]
        update = _update_learned_baseline(
            cfg, agent, Update({"params/x": before.rew}, {}, played, {})
        )
        assert update.weights["params/x"] is before.rew
        return update.weights, update.opt

    weights, opt = moved(0, 5)
    for one, two in ((weights, moved(0, 4, 5)[0]), (opt, moved(0, 4, 5)[1])):
        assert_close(one, two, rtol=1e-6, atol=1e-8)
    # Adam's first step is its step size long; what it goes by is the mean gradient.
    slope = gradient(
        lambda v: (value_loss(v, before, cfg.gamma) + value_loss(v, after, cfg.gamma)) / 2,
        agent.value,
    )
    for k, g in slope.items():
        assert_close(opt[f"value/{k}/exp_avg"], 0.1 * g, rtol=1e-4, atol=1e-7)
        step = (weights[f"value/{k}"] - agent.value[k])[g.abs() > 1e-4]
        assert_close(step, -cfg.meta_lr * g[g.abs() > 1e-4].sign(), rtol=1e-2, atol=0)
