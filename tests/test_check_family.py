"""`metarl.check_family`: names the first rule that a family breaks."""

import dataclasses
import random

import pytest
import torch
from gymnasium.spaces import Box
from reference import TENSOR
from small import metarl, refused
from test_first_observation import Scattered

from metarl import Choice, UsageError, check_family, make_family
from metarl.envs.checks import contract
from metarl.envs.classic_control.point_navigation import PointNavigation


@pytest.mark.parametrize("family", TENSOR.values(), ids=TENSOR)
def test_our_families_keep_every_rule(family):
    assert len(check_family(family())) == 8


@pytest.mark.parametrize("name", ["half-cheetah-vel"])
def test_a_simulator_that_is_no_tensor_program_is_checked_too(name):
    pytest.importorskip("mujoco")
    assert check_family(dataclasses.replace(make_family(name), horizon=10))


class FloatEnd(PointNavigation):
    def step(self, state, act, task, noise):
        nxt, rew, terminated = super().step(state, act, task, noise)
        return nxt, rew, terminated.float()


class DoubleState(PointNavigation):
    def step(self, state, act, task, noise):
        nxt, rew, terminated = super().step(state, act, task, noise)
        return type(nxt)(*(x.double() for x in nxt)), rew, terminated

    def observe(self, state):
        return super().observe(state).float()


class OutOfSpace(PointNavigation):
    @property
    def observation_space(self):
        return Box(-0.01, 0.01, (2,))


class OwnDice(PointNavigation):
    def step(self, state, act, task, noise):
        nxt, rew, terminated = super().step(state, act, task, noise)
        return nxt, rew + random.random(), terminated


class Crowded(PointNavigation):
    def step(self, state, act, task, noise):
        nxt, rew, terminated = super().step(state, act, task, noise)
        return nxt, rew - rew.mean(), terminated


class Dead(PointNavigation):
    def step(self, state, act, task, noise):
        return super().step(state, act, task._replace(goal_x=0 * task.goal_x), noise)


class Reordered(PointNavigation):
    @property
    def parameters(self):
        return {"goal_y": self.goal_y, "goal_x": self.goal_x}


class Strays(PointNavigation):
    def members(self, split, device="cpu"):
        return self.task_type(*(torch.full((4, 1), 7.0) for _ in "xy"))


class Broken(PointNavigation):
    def step(self, state, act, task, noise):
        if len(task[0]) == 20:
            raise ValueError("twenty")
        return super().step(state, act, task, noise)


class NoReward(PointNavigation):
    def step(self, state, act, task, noise):
        nxt, rew, terminated = super().step(state, act, task, noise)
        return nxt, rew / 0 * 0, terminated


@pytest.mark.parametrize(
    ("family", "said"),
    [
        (FloatEnd(), "terminated of step is .* make it"),
        (DoubleState(), "a step makes .*float64.* make its shapes and types the same"),
        (Reordered(), "task_type has the fields goal_x, goal_y, not its parameters goal_y, goal_x"),
        (Strays(), "a train task has goal_x=7, which its parameter doesn't allow"),
        (OutOfSpace(), "an observation of a train task lies outside its space"),
        (OwnDice(), "the same task, noise and actions gave another episode"),
        (Crowded(), "step 1 of an episode is another one when other tasks"),
        (Dead(), r"goal_x changed nothing .* give live=\('goal_x',\)"),
        (Scattered(), r"the first observation shows size \(\d+% .* give visible=\('size',\)"),
        (
            Broken(),
            "the check of 'observations in their space, finite rewards' raised ValueError: twenty",
        ),
        (NoReward(), "a reward of a train task is NaN or infinite"),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, str) else "",
)
def test_a_rule_that_is_broken_is_named_with_what_to_change(family, said):
    with pytest.raises(UsageError, match=f"{family.name}: {said}") as error:
        check_family(family)
    assert "\n" not in str(error.value)


def test_what_gymnasium_finds_is_told(monkeypatch):
    def complain(env, skip_render_check):
        assert env.observation_space == PointNavigation().observation_space
        raise AssertionError("two\nlines")

    monkeypatch.setattr("metarl.envs.checks.check_family.check_env", complain)
    with pytest.raises(UsageError, match="point-navigation: Gymnasium's checker says: two lines"):
        check_family(PointNavigation())


def test_what_is_meant_can_be_said():
    assert check_family(Dead(), live=["goal_x"])
    assert check_family(Scattered(), visible=["size"])


def test_a_parameter_of_one_value_or_two_counts_by_its_effect():
    class Mirrored(PointNavigation):
        def step(self, state, act, task, noise):
            return super().step(state, act, task._replace(goal_x=task.goal_x.abs()), noise)

    contract.check_parameters(Mirrored(goal_x=Choice((-0.2, 0.2, 0.4))))
    with pytest.raises(UsageError, match="goal_x changed nothing"):
        contract.check_parameters(Mirrored(goal_x=Choice((-0.2, 0.2))))


def test_the_command_says_what_holds_and_what_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crowd_of_mine.py").write_text(
        "from metarl.envs.classic_control.point_navigation import PointNavigation\n"
        "class Crowded(PointNavigation):\n"
        "    def step(self, *given):\n"
        "        nxt, rew, end = super().step(*given)\n"
        "        return nxt, rew - rew.mean(), end\n"
    )
    code, out, err = metarl("families bandit maze --check")
    assert (code, err, out.count("keeps the rules: shapes and types; ")) == (0, "", 2)
    refused("families crowd_of_mine:Crowded --check", code=2, parts=("step 1 of an episode",))
    refused("families --check", code=2, parts=("--check: name the families",))
