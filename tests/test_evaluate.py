"""Evaluation is of unseen tasks, and each of its numbers is what its name says."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from agents_reference import Walk
from reference import TENSOR, draw, play
from small import small
from torch.testing import assert_close

from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.networks.policy import act_dist
from metarl.envs import FAMILIES, RunError, UsageError, make_family, parameters, task_values
from metarl.envs.classic_control.point_navigation import PointNavigation
from metarl.evaluation.evaluate import evaluate, oracle_return
from metarl.training.meta_train import meta_train, new_agent


def watched(name):
    """The family, which notes the tasks and the noise of every rollout."""

    class Watched(FAMILIES[name]):
        tasks: ClassVar[list] = []
        noise: ClassVar[list] = []

        def reset(self, task, noise):
            self.tasks.extend(tuple(row.values()) for row in task_values(task))
            self.noise.extend(tuple(row) for row in noise.flatten(0, 1).tolist() if row)
            return super().reset(task, noise)

    return Watched()


def train_and_judge(name, split, evaluated, **more):
    """What training saw, and what evaluation with the same seed saw: tasks, noise."""
    family, cfg = watched(name), small(name, **more)
    agent = list(meta_train(cfg, family))[-1].agent
    trained = set(family.tasks), set(family.noise)
    family.tasks.clear()
    family.noise.clear()
    result = evaluate(agent, family, split, evaluated, episodes=2, steps=1, seed=cfg.seed)
    assert {tuple(p.values()) for p in result.params} == set(family.tasks)
    return trained, (set(family.tasks), set(family.noise))


@pytest.mark.parametrize(
    ("split", "members"), [("validation", 24), ("test", 48), ("extrapolate", 144)]
)
def test_a_finite_family_is_judged_on_members_that_training_never_sees(split, members):
    """Training sees all of its 72 members here, and evaluation all of those held out."""
    (trained, _), (evaluated, _) = train_and_judge(
        "forager", split, members, tasks=72, iterations=1
    )
    assert (len(trained), len(evaluated)) == (72, members)
    assert not trained & evaluated


@pytest.mark.parametrize("name", ["point-navigation", "cartpole"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_continuous_family_is_judged_on_numbers_that_training_never_draws(name, split):
    """Same seed, and as many tasks as in training: only the stream tells them apart."""
    (trained, _), (evaluated, _) = train_and_judge(name, split, 3)

    def drawn(rows):
        return {x for row in rows for x in row} - {0.0, 1.0}  # what a Choice may be

    assert len(drawn(trained)) >= 18
    assert len(drawn(evaluated)) >= 6
    assert not drawn(trained) & drawn(evaluated)


@pytest.mark.parametrize("name", ["forager", "cartpole"])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_no_episode_of_evaluation_starts_as_one_of_training(name, split):
    (_, trained), (_, evaluated) = train_and_judge(name, split, 3)
    assert len(evaluated) == 18  # 3 tasks, 2 episodes before, 2 after, 2 of the oracle
    assert not trained & evaluated


@pytest.mark.parametrize("name", ["forager", "cartpole", "maze"])
def test_validation_shares_neither_tasks_nor_episodes_with_the_test(name):
    """Whoever tunes on the one has seen nothing of the other, at the same seed."""
    _, (tasks, noise) = train_and_judge(name, "validation", 3)
    _, (test_tasks, test_noise) = train_and_judge(name, "test", 3)
    assert not tasks & test_tasks
    assert not noise & test_noise


def test_extrapolation_tasks_lie_outside_the_training_range():
    family = make_family("point-navigation")
    agent = new_agent(small("point-navigation"), family)
    result = evaluate(agent, family, "extrapolate", tasks=50, episodes=2, steps=0)
    for name, known in parameters(family).items():
        for value in (p[name] for p in result.params):
            assert not known.low <= value <= known.high
            assert known.allows(value)


def test_a_family_without_an_outside_says_which_split_to_take():
    agent = new_agent(small("point-navigation"), Walk())
    with pytest.raises(UsageError, match=r"walk has nothing to extrapolate to.*--split test"):
        evaluate(agent, Walk(), "extrapolate", tasks=2, episodes=2)


@pytest.mark.parametrize("name", TENSOR)
def test_the_seed_alone_decides_the_result(name):
    family, agent = make_family(name), new_agent(small(name), make_family(name))
    found = []
    for seed, everyones in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(everyones)
        np.random.seed(everyones)  # noqa: NPY002
        found.append(evaluate(agent, family, "test", 5, 2, 2, seed).to_json("promp", 7))
    assert found[0] == found[1]
    for what in ("return_mean", "return_ci95", "per_task"):
        assert found[0][what] != found[2][what]


@dataclass(frozen=True)
class Remembering(Agent):
    """An agent that keeps what it played."""

    played: ClassVar[list] = []

    def play(self, *args, **how):
        self.played.append(super().play(*args, **how))
        return self.played[-1]


@pytest.mark.parametrize("name", TENSOR)
def test_step_k_is_the_agent_that_learnt_k_times_from_the_very_episodes_before(name):
    """Step 0 is the agent as it came. The weights show in the log-probabilities of the actions."""
    family = make_family(name)
    plain = new_agent(small(name, inner_lr=1.0), family)
    agent = Remembering(**{f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)})
    agent.played.clear()
    result = evaluate(agent, family, "test", tasks=4, episodes=3, steps=2)
    assert result.returns.shape == (4, 3)
    assert len(agent.played) == 3
    for k, data in enumerate(agent.played):
        obs, act = data.obs.flatten(1, 2), data.act.flatten(1, 2)
        mask = data.mask.flatten(1, 2)
        logp = act_dist(plain.policy, plain.params, obs).log_prob(act) * mask
        assert_close(logp, data.logp.flatten(1, 2))
        summed = (data.rew * data.mask).sum(1).mean(1)
        assert_close(torch.from_numpy(result.returns[:, k]), summed.double())
        plain = plain.learn(data)


def test_more_steps_change_nothing_of_the_steps_before():
    family = make_family("forager")
    agent = new_agent(small("forager"), family)
    few, many = (evaluate(agent, family, "test", 4, 2, steps) for steps in (0, 2))
    np.testing.assert_array_equal(few.returns[:, 0], many.returns[:, 0])


class Broken(PointNavigation):
    """Worse than any number."""

    def step(self, state, act, task, noise):
        nxt, rew, terminated = super().step(state, act, task, noise)
        return nxt, rew + float("nan"), terminated


def test_a_nan_from_a_family_stops_and_says_where():
    agent = new_agent(small("point-navigation"), Broken())
    with pytest.raises(
        RunError, match=r"reward is .* at step 0 of episode \d with goal_x=.*finite"
    ):
        evaluate(agent, Broken(), tasks=2, episodes=2)


@pytest.mark.parametrize("name", [f for f, cls in FAMILIES.items() if hasattr(cls, "oracle")])
def test_the_oracle_is_paid_until_its_episode_ends(name):
    family = make_family(name)
    task = draw(family, 5)
    _, rew, mask = play(family, task, family.oracle, episodes=3, seed=4)
    want = (rew * mask).sum(0).mean(-1)
    got = oracle_return(family, task, 3, torch.Generator().manual_seed(4))
    assert_close(torch.from_numpy(got), want.double(), rtol=1e-5, atol=1e-5)


class ToldWalk(Walk):
    """After an episode's end its observations are NaN and its rewards infinite."""

    def oracle(self, state, task):
        return torch.zeros(*state.pos.shape)


def test_what_comes_after_the_end_is_nothing_to_the_oracle():
    task = Walk.task_type(torch.tensor([[1.0], [3.0], [9.0]]))
    _, rew, _ = play(ToldWalk(), task, ToldWalk().oracle, episodes=2, seed=4)
    got = oracle_return(ToldWalk(), task, 2, torch.Generator().manual_seed(4))
    assert_close(torch.from_numpy(got), rew.sum(0).mean(-1).double(), rtol=1e-5, atol=1e-5)


def test_a_family_without_an_oracle_has_no_oracle_return():
    assert oracle_return(Walk(), draw(Walk()), 2, None) is None


def test_tasks_in_chunks_are_adapted_alike():
    """The same tasks; the first chunk has the same luck as without chunks."""
    family = make_family("point-navigation")
    agent = new_agent(small("point-navigation"), family)
    whole, parts = (evaluate(agent, family, "test", 5, 2, 2, seed=3, chunk=c) for c in (5, 2))
    assert parts.params == whole.params
    assert parts.returns.shape == whole.returns.shape == (5, 3)
    assert evaluate(agent, family, "test", 2, 2, 2, seed=3).returns.shape == (2, 3)
    np.testing.assert_allclose(parts.returns.mean(), whole.returns.mean(), rtol=0.3)
