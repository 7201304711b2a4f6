"""What an environment must be, found out before training: right, or refused in one line."""

import checked_worlds as worlds
import gymnasium
import numpy as np
import pytest
import torch
from checked_worlds import RESETS, STEPS
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete

from metarl.cli.tables import how_new
from metarl.envs import Choice, GymnasiumFamily, Range, UsageError, make_task, sample_tasks
from metarl.envs import simulate as start
from metarl.envs.gym.bound_env import BoundEnv
from metarl.envs.gym.checks.parameter_check import explore
from metarl.envs.gym.checks.trace import difference, random_rollout
from metarl.envs.gym.worker_envs import WorkerEnvs


class Here:
    """In place of a pool: asks the questions of one worker in this process."""

    closed = False

    def __init__(self, env_config):
        self.shared = {}
        self.worker_envs = WorkerEnvs(env_config, 0)
        self.worker_envs.shared = {"progress": np.zeros((1, 8), int)}

    def share(self, fields):
        pass

    def close(self):
        pass

    def ask(self, questions):
        ((question, arguments),) = questions.values()
        assert question == "explore"
        return {0: explore(self.worker_envs, *arguments)}


def family(environment, vary, **more):
    """A family that is explored in this process."""
    if isinstance(environment, type):
        entry = f"checked_worlds:{environment.__qualname__}"
        environment = EnvSpec(f"{environment.__name__}-v0", entry, max_episode_steps=20)
    made = GymnasiumFamily(environment, vary, **more)
    made._pool = Here(made.env_config)
    return made


def refusal(environment, vary, **more):
    with pytest.raises(UsageError) as error:
        family(environment, vary, **more).horizon  # noqa: B018
    assert "\n" not in str(error.value)
    return str(error.value)


def returns(family, task, action=None):
    """Rewards (T, N), of one episode of each task, 0 after its end."""
    simulator = start(family, task, 1, torch.Generator().manual_seed(0))
    simulator.reset()
    out = []
    kind = torch.float32 if isinstance(family.action_space, Box) else torch.int64
    shape = (len(task[0]), 1, *(family.action_space.shape or ()))
    going_on = torch.ones(len(task[0]), dtype=torch.bool)
    while going_on.any():
        act = torch.full(shape, 1, dtype=kind) if action is None else action
        _, rew, terminated, truncated = simulator.step(act)
        out.append(rew[:, 0] * going_on)
        going_on &= ~(terminated | truncated)[:, 0]
    return torch.stack(out)


MASS = {"mass": Range(0.5, 2.0)}
# Attributes whose reward follows, and those for which something may stay behind. Named here: a name
# in the environment's own module might be of a getattr.
FOLLOWS = {
    "Plain": "mass", "Derived": "mass", "Helper": "mass", "Vars": "mass", "Cached": "mass",
    "FirstReset": "mass", "Closure": "mass", "Moon": "mass", "Constant": "bulk",
}  # fmt: skip
REFUSED = {
    "Local": "mass", "Chained": "mass", "Child": "mass", "Loop": "mass", "Update": "mass",
    "Again": "mass", "ClassBody": "mass", "ByClass": "weight", "Default": "tonnes",
    "Inherited": "mass", "Property": "mass", "Reassigned": "mass", "Global": "mass",
}  # fmt: skip


class TestEachVariantIsReadByItsOwnSpaces:
    @pytest.fixture
    def worker(self):
        made = []

        def make(cls, vary):
            spec = EnvSpec(f"{cls.__name__}-v0", f"checked_worlds:{cls.__name__}")
            made.append(GymnasiumFamily(spec, vary, workers=1))
            return made[-1]

        yield make
        for one in made:
            one.close()

    def test_episodes_end_at_their_own_limit(self, worker):
        """Alone and in combination: the longest is of both parameters at once."""
        limits = worker(
            worlds.Limits, {"max_steps": Choice((5.0, 12.0)), "doubled": Choice((1.0, 2.0))}
        )
        assert limits.horizon == 24
        task = limits.task_type(
            torch.tensor([[5.0], [12.0], [12.0]]), torch.tensor([[1.0], [1.0], [2.0]])
        )
        assert returns(limits, task).sum(0).tolist() == [5, 12, 24]

    def test_full_throttle_is_the_variants_own(self, worker):
        torque = worker(worlds.Torque, {"torque": Range(1.0, 4.0)}).changed(
            {"torque": Range(1.0, 4.0)}, {"max_episode_steps": 3}
        )
        try:
            task = torque.task_type(torch.tensor([[3.29], [1.3], [3.64]]))
            np.testing.assert_allclose(returns(torque, task)[0], [6.58, 2.6, 7.28], rtol=1e-6)
            low = returns(torque, task, torch.full((3, 1, 1), -1.0))[0]
            np.testing.assert_allclose(low, [-3.29, -1.3, -3.64], rtol=1e-6)
            assert torque.observation_space.high[0] == pytest.approx(4.0, rel=1e-4)
        finally:
            torque.close()


def test_the_limit_of_make_may_vary():
    made = family("CartPole-v1", {"max_episode_steps": Range(5, 50, integer=True)})
    assert made.horizon == 50


def test_discrete_spaces_may_begin_elsewhere():
    made = family(worlds.Starts, {"start": Choice((0.0, 3.0))})
    assert (made.observation_space.shape, made.action_space) == ((6,), Discrete(2))


def test_parts_of_other_sizes_are_refused_though_their_sum_is_the_same():
    told = refusal(worlds.Keys, {"first": Choice((1.0, 2.0))})
    for part in ("some variants have observations of", "a: Box(1,)", "a: Box(2,)", "pad them"):
        assert part in told


def test_a_longer_variant_than_any_that_was_tried_is_refused_when_it_is_met():
    spec = EnvSpec("Limits-v0", "checked_worlds:Limits")
    made = GymnasiumFamily(spec, {"max_steps": Choice((5.0, 12.0))}, workers=1)
    try:
        made.horizon  # noqa: B018
        made._found["limit"] = 7
        with pytest.raises(UsageError, match=r"episodes of 12 steps.*--set max_episode_steps=7"):
            returns(made, make_task(made, max_steps=12))
    finally:
        made.close()


@pytest.mark.parametrize("wrong", [w for w in (*RESETS, *STEPS) if not w.startswith("good")])
def test_what_the_interface_forbids_is_refused_with_its_name(wrong):
    told = refusal(worlds.Gives, {"gain": Range(1.0, 2.0)}, fixed={"wrong": wrong})
    names = {
        "reset": "reset" if wrong not in ("reset one number", "reset None") else "observation",
        "four": "step must return", "none": "step must return", "obs": "observation",
        "rew": "reward", "end": "True or False", "info": "return a dict", "success": "success'",
    }  # fmt: skip
    assert names[wrong.split()[0]] in told
    assert "raised" not in told


@pytest.mark.parametrize("kind", [w for w in STEPS if w.startswith("good")])
def test_what_is_as_good_as_a_number_or_a_flag_gives_the_same_returns(kind):
    made = family(worlds.Gives, {"gain": Range(1.0, 2.0)}, fixed={"wrong": kind})
    assert made.success == (kind == "good success")
    plain = BoundEnv(made.env_config, made.agreed.setters, {"gain": 1.5}, (False,))
    plain.begin({"gain": 1.5}, 0)
    steps = [plain.step(0) for _ in range(5)]
    assert [(s.rew, s.terminated, s.truncated) for s in steps] == [
        (1.5, False, t == 4) for t in range(5)
    ]


def test_what_goes_wrong_later_is_told_with_its_variant_and_step():
    spec = EnvSpec("Gives-v0", "checked_worlds:Gives", max_episode_steps=20)
    fixed = {"wrong": "obs of one", "after": 3}
    made = GymnasiumFamily(spec, {"gain": Range(1.0, 2.0)}, fixed=fixed)
    made._found = family(worlds.Gives, {"gain": Range(1.0, 2.0)})._explored
    made._found["setters"] |= {
        k: made._found["setters"]["gain"].__class__("keyword", k) for k in fixed
    }
    try:
        with pytest.raises(RuntimeError) as error:
            returns(made, make_task(made, gain=1.5))
        for part in (
            "step 3 of episode 0",
            "gain=1.5",
            "observation has shape (1,), but its space (3,)",
        ):
            assert part in str(error.value)
    finally:
        made.close()


@pytest.mark.parametrize(
    ("cls", "function", "parts"),
    [
        (
            worlds.Module,
            worlds.set_power,
            ("interleaved episodes", "reward after step 1 is", "module"),
        ),
        (worlds.Own, worlds.set_class, ("interleaved episodes", "reward after step 1")),
        (worlds.Own, worlds.multiply_power, ("survives reset", "reward after step 1")),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_function_that_reaches_other_variants_is_refused(cls, function, parts):
    told = refusal(cls, {"mine": Range(5.0, 25.0)}, functions={"mine": function})
    for part in ("mine", "apart", *parts):
        assert part in told


def test_a_function_that_sets_the_environment_is_taken():
    made = family(worlds.Own, {"mine": Range(5.0, 25.0)}, functions={"mine": worlds.set_own})
    assert made.horizon == 20


@pytest.mark.parametrize(
    ("cls", "parts"),
    [
        (worlds.Table, ("'mass' (keyword)", "interleaved episodes", "module or class")),
        (worlds.Stream, ("interleaved episodes", "reward after step", "random stream")),
        (worlds.Unseeded, ("same episode twice", "reward after step 1 is", "super().reset(seed=")),
        (worlds.Noise, ("same episode twice", "apart", "self.np_random")),
        (worlds.Echo, ("survives reset", "observation[1] after reset is 0 and")),
    ],
)
def test_an_environment_that_is_not_its_seed_and_variant_alone_is_told_what_differs(cls, parts):
    told = refusal(cls, MASS)
    for part in parts:
        assert part in told


class TestEffect:
    def test_what_random_play_does_not_reach_is_refused_with_the_way_round(self):
        told = refusal(worlds.Needle, {"prize": Range(1.0, 2.0)})
        assert "--live prize" in told
        assert family(worlds.Needle, {"prize": Range(1.0, 2.0)}, live=["prize"]).horizon == 20

    def test_a_name_that_does_not_vary_is_refused(self):
        with pytest.raises(UsageError, match=r"--live price: .* give one of prize"):
            family(worlds.Needle, {"prize": Range(1.0, 2.0)}, live=["price"])

    @pytest.mark.parametrize("ends", [(-1.0, 1.0), (-1.0, 3.0)])
    def test_more_than_two_values_are_tried(self, ends):
        """An effect that is even, and that values near the ends don't have."""
        assert family(worlds.Even, {"angle": Range(*ends)}).horizon == 20


class TestLevelsThatAreAlike:
    def test_they_are_counted_and_told(self):
        level = Range(0, 39, integer=True, held_out=(30, 39))
        made = family(worlds.Nine, {"level": level})
        (line,) = made.warnings
        assert "10 of 10 held-out values of level behave exactly like a training value" in line
        assert made.alike == {"level": (10, 10)}
        assert "unseen" not in how_new(made, "test")

    @pytest.mark.parametrize(
        ("level", "alike"),
        [
            (Choice(tuple(map(float, range(12))), held_out=(8.0, 9.0)), {"level": (1, 2)}),
            (Choice(tuple(map(float, range(9))), held_out=(7.0, 8.0)), {}),
        ],
    )
    def test_those_that_are_not_are_not(self, level, alike):
        made = family(worlds.Nine, {"level": level})
        assert made.alike == {}, "nothing is known of it before its first use"
        assert len(made.warnings) == len(alike)
        assert made.alike == alike


class TestMasks:
    def test_it_is_told_that_they_are_ignored(self):
        (line,) = family(worlds.Mask, {"pay": Range(1.0, 2.0)}).warnings
        assert "action_mask" in line
        assert "ignored" in line

    def test_one_that_forbids_actions_is_refused_with_what_to_wrap(self):
        told = refusal(worlds.Mask, {"pay": Range(1.0, 2.0)}, fixed={"strict": True})
        for part in ("ValueError: illegal", "mask of legal actions", "wrap it"):
            assert part in told


class TestAttributes:
    @pytest.mark.parametrize("cls", FOLLOWS)
    @pytest.mark.parametrize("star", ["", "*"])
    def test_whatever_is_computed_from_one_follows(self, cls, star):
        name = FOLLOWS[cls] + star
        made = family(getattr(worlds, cls), {name: Range(0.5, 2.0)})
        for value in (0.75, 1.5, 0.75):
            env = BoundEnv(made.env_config, made.agreed.setters, {name: value}, (False,))
            env.begin({name: value}, 0)
            assert env.step(0).rew == value

    @pytest.mark.parametrize("cls", REFUSED)
    def test_one_whose_value_others_may_have_is_refused(self, cls):
        told = refusal(getattr(worlds, cls), {REFUSED[cls]: Range(0.5, 2.0)})
        assert f"'{REFUSED[cls]}'" in told
        assert "changes nothing" not in told

    def test_the_class_is_left_as_it_was(self):
        before = dict(vars(worlds.Constant))
        made = family(worlds.Constant, {"bulk": Range(0.5, 2.0)})
        BoundEnv(made.env_config, made.agreed.setters, {"bulk": 2.0}, (False,))
        assert dict(vars(worlds.Constant)) == before
        assert worlds.Constant().told() == 1.0

    @pytest.mark.parametrize(
        ("environment", "name", "value", "follow"),
        [
            ("CartPole-v1", "masspole", 0.4, {"total_mass": 1.4, "polemass_length": 0.2}),
            ("CartPole-v1", "masscart", 3.0, {"total_mass": 3.1}),
            ("CartPole-v1", "length", 2.0, {"polemass_length": 0.2, "total_mass": 1.1}),
            ("CartPole-v1", "gravity", 3.0, {"total_mass": 1.1}),
            ("CartPole-v1", "theta_threshold_radians", 0.5, {}),
            ("MountainCar-v0", "gravity", 0.005, {}),
            ("MountainCar-v0", "force", 0.005, {}),
            ("Pendulum-v1", "m", 2.0, {}),
            ("Acrobot-v1", "LINK_LENGTH_1", 2.0, {}),
            ("Acrobot-v1", "LINK_MASS_2", 2.0, {}),
        ],
    )
    def test_those_of_gymnasiums_classics(self, environment, name, value, follow):
        made = GymnasiumFamily(environment, {name: Range(value / 2, 2 * value)})
        bare = made.make_env(**{name: value}).unwrapped
        assert {k: getattr(bare, k) for k in follow} == pytest.approx(follow)
        assert getattr(bare, name) == value

    def test_a_space_that_follows_too(self):
        env = GymnasiumFamily("MountainCar-v0", {"min_position": Range(-3.0, -1.2)}).make_env(
            min_position=-2.0
        )
        np.testing.assert_allclose(env.unwrapped.low, [-2.0, -0.07])
        assert env.observation_space.low[0] == -2.0

    def test_one_that_is_computed_itself_is_refused(self):
        told = refusal("CartPole-v1", {"total_mass": Range(0.5, 2.0)})
        assert "self.total_mass = self.masspole + self.masscart" in told

    def test_a_class_without_source_is_refused(self):
        space = {"Tell": worlds.Tell, "__name__": "nowhere"}
        exec("class X(Tell):\n    def __init__(self):\n        self.mass = 1.0", space)
        spec = EnvSpec("X-v0", space["X"], max_episode_steps=5)
        assert "can't be read" in refusal(spec, MASS)


class TestDifferences:
    def trace(self, value, **setting):
        made = family(worlds.Own, {"mine": Range(0.0, 9.0)}, functions={"mine": worlds.set_own})
        env = BoundEnv(made.env_config, made.agreed.setters, {"mine": value}, (False,))
        return [e for events in random_rollout(env, {"mine": value}, 0, 8) for e in events]

    def test_the_first_is_named_with_its_place_and_size(self):
        one = self.trace(1.0)
        assert difference(one, self.trace(1.0)) == ""
        assert difference(one, self.trace(1.5)) == "reward after step 1 is 1 and 1.5, 0.5 apart"

    def test_in_a_later_episode_too(self):
        one = self.trace(1.0)
        other = [
            e._replace(value=e.value + 2) if e[:3] == (2, 3, "observation") else e for e in one
        ]
        told = "observation[0] after step 3 of episode 2 is 3 and 5, 2 apart"
        assert difference(one, other) == told


def test_an_end_of_the_process_is_told():
    spec = EnvSpec("Dies-v0", "test_check:Dies", max_episode_steps=5)
    told = refusal(spec, MASS)
    assert "ended the process (exit code 3)" in told


class Dies(worlds.Plain):
    def step(self, action):
        import os

        os._exit(3)


def test_spaces_are_told_as_they_were_understood():
    made = family(worlds.Torque, {"torque": Range(1.0, 1.5)})
    (line,) = made.notes
    assert "observation: Box(1,) read as a vector of 1 number" in line
    assert "action: Box(1,) scaled from [-1, 1] to [-1.25, 2.5]" in line
    assert isinstance(gymnasium.spec("CartPole-v1"), EnvSpec)
    assert sample_tasks(made, 2)
