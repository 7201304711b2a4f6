"""What a meta-iteration is made of: its streams, its chunks, and the step size of each weight."""

import dataclasses

import pytest
import torch
from small import small
from torch.testing import assert_close

from metarl.agents.rng import stream
from metarl.envs import make_family, sample_tasks
from metarl.evaluation.evaluate import evaluate
from metarl.outer import OUTER
from metarl.outer import maml as gradient
from metarl.outer.inner_loop import adapt_again, chunks, collect_and_adapt
from metarl.outer.meta_objective import meta_gradient
from metarl.outer.train_state import named_weights, with_weights
from metarl.outer.update import trained_weights
from metarl.training.meta_train import meta_train, new_agent

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("algo", "more"),
    [("maml", {"step_size": "per-tensor"}), ("imaml", {"step_size": "per-weight"})],
)
def test_step_sizes_are_learned_by_their_own_step_size_and_weights_by_theirs(algo, more):
    """Adam's first step is its step size long, wherever the gradient is clear of rounding."""
    family = make_family("bandit")
    cfg = small("bandit", algo, meta_lr=3e-3, meta_lr_of_steps=0.02, inner_lr=0.5, **more)
    before = named_weights(new_agent(cfg, family))
    state = next(meta_train(cfg, family))
    after = named_weights(state.agent)
    for group, size in (("params", cfg.meta_lr), ("inner_lr", cfg.meta_lr_of_steps)):
        moves = [(after[k] - w).abs().max() for k, w in before.items() if k.startswith(group)]
        assert max(moves) == pytest.approx(size, rel=0.02), group


def test_each_iteration_draws_its_own_tasks_and_episodes(monkeypatch):
    """Streams are functions of seed, purpose and iteration, and no two are the same."""
    family, cfg = make_family("point-navigation"), small("point-navigation", iterations=3, seed=4)
    plain, seen = OUTER["gradient"], []

    def improve(cfg, agent, opt, family, task, gen, on_phase_end):
        seen.append((task, gen.get_state()))
        return plain(cfg, agent, opt, family, task, gen, on_phase_end)

    monkeypatch.setitem(OUTER, "gradient", improve)
    assert len(list(meta_train(cfg, family))) == 3
    for it, (task, state) in enumerate(seen):
        assert torch.equal(state, stream(4, "episodes", it, CPU).get_state())
        want = sample_tasks(family, cfg.tasks, stream(4, "tasks", it, CPU))
        assert all(torch.equal(a, b) for a, b in zip(task, want, strict=True))
    states = [state for _, state in seen]
    assert not torch.equal(states[0], states[1])
    assert not torch.equal(states[1], states[2])
    assert not torch.equal(seen[0][0][0], seen[1][0][0])


@pytest.mark.parametrize("algo", ["maml", "maml-trpo"])
def test_tasks_in_unequal_chunks_count_alike(algo):
    """Loss and gradient are means over tasks: of chunks of 2, 2 and 1, the last counts a fifth."""
    family = make_family("cartpole")
    cfg = small("cartpole", algo, tasks=5, task_chunk=2, episodes=3, inner_lr=1.0)
    agent, task = new_agent(cfg, family), sample_tasks(family, 5, torch.Generator().manual_seed(1))
    gen = torch.Generator().manual_seed(2)
    update = OUTER[cfg.outer](cfg, agent, {}, family, task, gen, lambda phase: None)
    gen = torch.Generator().manual_seed(2)
    weights = trained_weights(cfg, agent)
    want, loss = dict.fromkeys(weights, 0.0), 0.0
    for part in chunks(task, 2):
        data = collect_and_adapt(cfg, with_weights(agent, weights), family, part, gen)
        value, each = meta_gradient(cfg, agent, weights, data, first=True)
        want = {k: want[k] + len(part[0]) / 5 * each[k] for k in want}
        loss += len(part[0]) / 5 * value
    norm = torch.cat([g.flatten() for g in want.values()]).norm()
    assert_close(update.metrics["train/meta_loss"], loss, rtol=1e-4, atol=1e-7)
    assert_close(update.metrics["train/grad_norm"], norm, rtol=1e-4, atol=1e-7)
    if algo == "maml":
        first = {k: 10 * update.opt[f"{k}/exp_avg"] for k in want}  # of Adam's first moment
        scale = min(1.0, cfg.max_grad_norm / float(norm))
        assert_close(first, {k: scale * g for k, g in want.items()}, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("algo", "episodes_a_step"), [("rl2", 1), ("maml", 4)])
def test_a_memory_learns_from_one_episode_a_step_and_a_gradient_from_all(algo, episodes_a_step):
    """Four trials of a memory know nothing of each other; a bandit's episodes have ten pulls."""
    family = make_family("bandit")
    agent = new_agent(small("bandit", algo), family)
    result = evaluate(agent, family, tasks=3, episodes=4, steps=2)
    assert result.env_steps.tolist() == [[0.0, 10.0 * episodes_a_step, 20.0 * episodes_a_step]] * 3


def test_later_epochs_go_on_from_the_weights_of_the_ones_before():
    family = make_family("bandit")
    cfg = small("bandit", epochs=3, inner_lr=0.5)
    state = next(meta_train(cfg, family))
    assert state.opt["params/layers.0.weight/step"] == 3
    once = next(meta_train(dataclasses.replace(cfg, epochs=1), family))
    moved, less = (
        (s.agent.params["layers.1.bias"] - new_agent(cfg, family).params["layers.1.bias"]).norm()
        for s in (state, once)
    )
    assert moved > 1.5 * less


def test_the_kept_graph_serves_the_first_epoch_alone(monkeypatch):
    """Later epochs adapt anew, from the weights that moved."""
    family, firsts = make_family("bandit"), []

    def recorded(cfg, agent, weights, data, first=False):
        firsts.append(first)
        return meta_gradient(cfg, agent, weights, data, first)

    monkeypatch.setattr(gradient, "meta_gradient", recorded)
    next(meta_train(small("bandit", epochs=3), family))
    assert firsts == [True, False, False]


def test_second_derivatives_are_kept_in_the_last_steps():
    """With one of two, the first step's way is a constant, and the second's is not."""
    family = make_family("point-navigation")
    cfg = small("point-navigation", "maml", inner_steps=2, second_order_steps=1)
    agent, task = new_agent(cfg, family), sample_tasks(family, 2, torch.Generator().manual_seed(1))
    data = collect_and_adapt(cfg, agent, family, task, torch.Generator().manual_seed(2))

    def gradient_of(settings):
        weights = trained_weights(settings, agent)
        path = adapt_again(settings, with_weights(agent, weights), data)
        return torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad(
                    sum(p.square().sum() for p in path[-1].values()), list(weights.values())
                )
            ]
        )

    none, one, both = (
        gradient_of(dataclasses.replace(cfg, second_order_steps=k)) for k in (0, 1, 2)
    )
    assert not torch.allclose(none, one)
    assert not torch.allclose(one, both)
