"""The contract that every family keeps, whatever its world."""

from types import SimpleNamespace

import pytest
import torch
from gymnasium.spaces import Box
from reference import TENSOR, draw, play, random_acts, splits
from torch.testing import assert_close

from metarl.envs import (
    SPLITS,
    Choice,
    Range,
    make_family,
    make_task,
    parameters,
    task_values,
    unseen,
)
from metarl.envs.checks.contract import (
    changed,
    check_observations,
    check_repeats,
    check_rows,
    check_shapes,
    check_tasks,
)
from metarl.envs.games.forager import Forager

EVERY = [cls() for cls in TENSOR.values()]
FINITE = [family for family in EVERY if hasattr(family, "members")]
# A few episodes can't show all: whether an arm pays is luck, and a process has 550 parameters, most
# of them of transitions that don't come about. Their own tests look at each parameter.
LIFE_HIDDEN_BY_LUCK = {"bandit", "tabular-mdp"}


def ids(family):
    return family.name


@pytest.mark.parametrize("family", EVERY, ids=ids)
class TestContract:
    def test_shapes_and_types_are_those_of_the_spaces(self, family):
        check_shapes(family)
        assert family.observation_space.dtype in ("float32", "int8")

    def test_observations_lie_in_their_space(self, family):
        check_observations(family)

    def test_same_seed_same_trajectory(self, family):
        check_repeats(family)

    def test_no_luck_is_used_twice(self, family):
        """Not by two tasks, nor two episodes, nor two steps."""
        used = []

        class Spy(type(family)):
            def reset(self, task, noise):
                used.append(noise)
                return super().reset(task, noise)

            def step(self, state, act, task, noise):
                used.append(noise)
                return super().step(state, act, task, noise)

        play(Spy(), draw(family))
        assert [noise.shape for noise in used] == [
            (4, 3, family.reset_noise),
            *[(4, 3, family.step_noise)] * family.horizon,
        ]
        every = torch.cat([noise.flatten() for noise in used])
        # A pair of 2^24 numbers is equal by chance now and then.
        assert len(every) - len(every.unique()) <= 1 + 2 * len(every) ** 2 / 2**25

    def test_parameters_are_drawn_independently(self, family):
        related = torch.stack([x.flatten() for x in draw(family, 5000)]).corrcoef().triu(1)
        if family.name == "forager":
            related[:3, :3] = 0  # of its items one is always food, one poison, one nothing
        assert related.abs().max() < 0.1

    def test_task_holds_every_parameter_in_order(self, family):
        check_tasks(family)

    @pytest.mark.parametrize("split", SPLITS)
    def test_tasks_lie_in_their_ranges(self, family, split):
        """Extrapolation lies outside the training range, on both sides, where there is one."""
        if split not in splits(family):
            pytest.skip("nothing lies beyond its ranges")
        for name, column in draw(family, 2000, split)._asdict().items():
            known = parameters(family)[name]
            assert all(known.allows(value) for value in column.flatten().tolist())
            if isinstance(known, Choice):
                seen, every = set(column.flatten().tolist()), set(known.members(split))
                assert seen <= every
                if family in FINITE and split in ("validation", "extrapolate"):
                    # A few members: half of the wirings or consonants, or no worthless item.
                    assert len(seen) >= len(every) / 2
                else:
                    assert seen == every
                continue
            low, high, width = known.low, known.high, known.high - known.low
            if split == "extrapolate" and known.extrapolation:
                assert ((column <= low) | (column >= high)).all()
                assert min(known.bounds) < column.min() < low < high < column.max()
            else:
                assert low <= column.min() < low + 0.02 * width
                assert high - 0.02 * width < column.max() <= high

    def test_every_parameter_is_live(self, family):
        """Move one parameter alone: what the agent sees or gets must change (no dead knobs)."""
        if family.name in LIFE_HIDDEN_BY_LUCK:
            pytest.skip("its own tests look at each parameter")
        task = draw(family)
        before = play(family, task, episodes=12)
        for name, known in parameters(family).items():
            old = getattr(task, name)
            for value in known.values if isinstance(known, Choice) else known.bounds:
                live = changed(family, task, before, name, value)
                assert torch.equal(live, old[:, 0] != value), f"{name}={value} is dead"

    def test_batch_rows_do_not_talk(self, family):
        """An episode of task 2 alone goes as it does among other tasks and other episodes."""
        check_rows(family)

    def test_double_tasks_have_double_dynamics(self, family):
        task = draw(family)
        double = type(task)(*(x.double() for x in task))
        (obs, rew, _), (obs64, rew64, _) = play(family, task), play(family, double)
        assert rew64.dtype == torch.float64
        if isinstance(family.observation_space, Box):
            assert obs64.dtype == torch.float64
            assert not torch.equal(obs64, obs64.float().double()), "computed in single precision"
        assert_close(obs64.float()[:8], obs[:8], rtol=1e-4, atol=1e-5)
        assert_close(rew64.float()[:8], rew[:8], rtol=1e-4, atol=1e-5)

    def test_frame_is_a_picture_of_the_state(self, family):
        task = draw(family, 1)
        first, other = (family.reset(task, torch.rand(1, 1, family.reset_noise)) for _ in "ab")
        act, noise = random_acts(family, (1, 1)), torch.rand(1, 1, family.step_noise)
        other = family.step(other, act, task, noise)[0]
        picture = family.frame(first, task)
        assert (picture.shape[2], str(picture.dtype)) == (3, "uint8")
        assert (picture == family.frame(first, task)).all()
        assert (picture != family.frame(other, task)).any()


@pytest.mark.parametrize("family", FINITE, ids=ids)
class TestFiniteFamily:
    def test_splits_are_disjoint(self, family):
        every = [t for s in SPLITS for t in task_values(family.members(s))]
        assert len({tuple(t.values()) for t in every}) == len(every)

    @pytest.mark.parametrize("split", SPLITS)
    def test_each_member_is_drawn_once_before_any_is_drawn_twice(self, family, split):
        every = sorted(tuple(t.values()) for t in task_values(family.members(split)))
        twice = [tuple(t.values()) for t in task_values(draw(family, 2 * len(every), split))]
        assert sorted(twice[: len(every)]) == sorted(twice[len(every) :]) == every
        assert twice[: len(every)] not in (every, twice[len(every) :])
        assert len(draw(family, 5, split)[0]) == 5

    def test_the_task_one_gets_without_asking_is_a_training_task(self, family):
        (task,) = task_values(make_task(family))
        assert task in task_values(family.members("train"))


def test_continuous_tasks_depend_on_the_generator_alone():
    family = make_family("cartpole")
    assert_close(draw(family, seed=1), draw(family, seed=1), rtol=0, atol=0)
    assert not torch.equal(draw(family, seed=1).length, draw(family, seed=2).length)


@pytest.mark.parametrize(
    ("known", "validation", "test"),
    [
        ({"held_out": (2.0,), "validation": (3.0,)}, "held-out a", "held-out a"),
        ({"held_out": (2.0,)}, "none: tasks of training", "held-out a"),
        ({"validation": (3.0,)}, "held-out a", "none: tasks of training"),
        ({}, "none: training sees every task", "none: training sees every task"),
    ],
)
def test_what_is_unseen_is_told_of_each_split(known, validation, test):
    """Values that are held out; else a continuous parameter, of which no value is drawn twice."""
    a = Choice((1.0, 2.0, 3.0), **known)
    few, many = Range(1, 9, integer=True), Range(1, 99999, integer=True)
    fresh = "an independent stream of draws"
    for more, always in (
        ({}, None),
        ({"b": few}, None),
        ({"b": many}, fresh),
        ({"b": Range(0, 1)}, fresh),
    ):
        family = SimpleNamespace(parameters={"a": a, **more})
        for split, want in (("validation", validation), ("test", test)):
            assert unseen(family, split) == (always if always and "none" in want else want)


def test_members_of_training_do_not_count_as_unseen():
    class Forgetful(Forager):
        def members(self, split, device="cpu"):
            return super().members("test" if split == "test" else "train", device)

    assert unseen(Forgetful(), "test") == "disjoint members"
    assert unseen(Forgetful(), "validation") == "none: tasks of training"
