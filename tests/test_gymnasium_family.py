"""Any Gymnasium environment as a family: the same episodes, in worker processes."""

import gymnasium
import numpy as np
import pytest
import torch
from gym_worlds import set_bonus
from torch.testing import assert_close

from metarl.agents.networks.policy import MLP
from metarl.agents.rollouts.rollout import collect
from metarl.envs import (
    Choice,
    GymnasiumFamily,
    Range,
    RunError,
    UsageError,
    make_task,
    sample_tasks,
)
from metarl.envs import simulate as start
from metarl.envs.gym.mujoco_fields import model_field

COUNTER = "gym_worlds:Counter-v0"
GAIN = {"gain": Range(1.0, 2.0)}


@pytest.fixture
def made():
    """Families whose workers are ended with the test."""
    families = []

    def make(*args, **more):
        families.append(GymnasiumFamily(*args, **{"workers": 2, **more}))
        return families[-1]

    yield make
    for family in families:
        family.close()


def play(family, task, episodes=3, seed=0, acts=None):
    """Observations, rewards and ends of a whole rollout, each with a first axis of time."""
    simulator = start(family, task, episodes, torch.Generator().manual_seed(seed))
    out = [(simulator.reset(),)]
    gen = torch.Generator().manual_seed(7)
    for t in range(family.horizon):
        shape = (len(task[0]), episodes)
        act = torch.rand(*shape, 1, generator=gen) * 2 - 1 if acts is None else acts[t]
        out.append(simulator.step(act))
    return simulator, out


class TestEpisodes:
    def test_they_are_gymnasiums_own(self, made):
        """Each of 3 tasks x 2 episodes, step by step, against a plain loop."""
        family = made("CartPole-v1", {"masspole": Range(0.1, 0.9)}, fixed={"max_episode_steps": 20})
        task = sample_tasks(family, 3, torch.Generator().manual_seed(3))
        acts = torch.randint(2, (20, 3, 2), generator=torch.Generator().manual_seed(4))
        simulator, out = play(family, task, 2, acts=acts)
        assert_close(out[-1][2] | out[-1][3], torch.ones(3, 2, dtype=torch.bool))
        for n in range(3):
            for b in range(2):
                env = gymnasium.make("CartPole-v1", max_episode_steps=20)
                bare, mass = env.unwrapped, task.masspole[n].item()
                bare.masspole, bare.total_mass = mass, mass + bare.masscart
                bare.polemass_length = mass * bare.length
                obs, _ = env.reset(seed=simulator._seeds[2 * n + b])
                assert_close(out[0][0][n, b], torch.from_numpy(obs), rtol=0, atol=0)
                for t in range(20):
                    obs, rew, terminated, truncated, _ = env.step(acts[t, n, b].item())
                    got = [x[n, b] for x in out[t + 1]]
                    assert_close(got[0], torch.from_numpy(obs), rtol=0, atol=0)
                    assert [x.item() for x in got[1:]] == [rew, terminated, truncated]
                    if terminated or truncated:
                        break

    def test_a_time_limit_is_no_termination(self, made):
        family = made(COUNTER, GAIN)
        _, out = play(family, sample_tasks(family, 1))
        ends = [(x[2].all().item(), x[3].all().item()) for x in out[1:]]
        assert ends == [(False, False)] * 5 + [(False, True)]

    def test_they_depend_on_the_generator_and_not_on_the_workers(self, made):
        one, three = (made(COUNTER, GAIN, workers=w) for w in (1, 3))
        task = sample_tasks(one, 4, torch.Generator().manual_seed(0))
        first, same = play(one, task)[1], play(three, task)[1]
        assert_close(first, same, rtol=0, atol=0)
        assert_close(first, play(one, task)[1], rtol=0, atol=0)
        assert not torch.equal(first[-1][0], play(one, task, seed=1)[1][-1][0])

    def test_two_rollouts_at_once_are_refused_no_answer_of_the_other(self, made):
        """A larger rollout after a smaller one, and the other way round."""
        family = made(COUNTER, GAIN)
        task = sample_tasks(family, 4, torch.Generator().manual_seed(0))
        small = type(task)(*(x[:1] for x in task))
        alone = play(family, small, 1)[1]
        play(family, task, 5)
        assert_close(play(family, small, 1)[1], alone, rtol=0, atol=0)

    def test_success_is_that_of_any_step(self, made):
        family = made(COUNTER, GAIN)
        acts = torch.full((6, 1, 2, 1), 1.0)
        acts[:, :, 1] = -1.0
        simulator, _ = play(family, make_task(family, gain=2.0), 2, acts=acts)
        assert family.success
        assert simulator.success.tolist() == [[1.0, 0.0]]

    def test_dicts_and_several_discrete_actions(self, made):
        family = made("gym_worlds:Spaces-v0", {"goal": Range(1.0, 2.0)})
        task = make_task(family, goal=1.5)
        acts = torch.tensor([2, 1]).expand(6, 1, 3, 2)
        _, out = play(family, task, acts=acts)
        assert out[0][0].shape == (1, 3, 3 + 6 + 4)
        assert out[1][1].tolist() == [[4.5] * 3]

    def test_pictures_come_as_planes_of_bytes(self, made):
        family = made("gym_worlds:Picture-v0", {"shade": Choice((1.0, 2.0))})
        _, out = play(family, make_task(family, shade=2), acts=torch.full((6, 1, 3), 2))
        assert (out[3][0].shape, out[3][0].dtype) == ((1, 3, 3, 12, 10), torch.uint8)
        assert out[3][0][0, 0, 1, 3].tolist() == [200] * 10
        assert out[3][1].tolist() == [[2.0] * 3]

    def test_a_rollout_ends_with_its_last_episode(self, made):
        family = made("gym_worlds:Spaces-v0", {"goal": Range(1.0, 2.0)})
        simulator, _ = play(family, make_task(family), acts=torch.zeros(6, 1, 3, 2).long())
        assert simulator.over
        family = made("CartPole-v1", {"masspole": Range(0.1, 0.9)})
        policy = MLP(family.observation_space, family.action_space, (4,))
        task, gen = make_task(family), torch.Generator().manual_seed(0)
        data = collect(policy, policy.initial(gen), family, task, 3, gen)
        assert data.mask.shape[1] == data.mask.sum(1).max() < 200

    def test_an_agent_plays_in_them(self, made):
        family = made(COUNTER, GAIN)
        policy = MLP(family.observation_space, family.action_space, (4,))
        task = sample_tasks(family, 2, torch.Generator().manual_seed(0))
        gen = torch.Generator().manual_seed(0)
        data = collect(policy, policy.initial(gen), family, task, 3, gen)
        assert data.obs.shape == (2, 6, 3, 1)
        assert data.mask.all()


class TestParameters:
    def test_an_attribute_takes_along_what_is_computed_from_it(self, made):
        family = made("CartPole-v1", {"masspole": Range(0.1, 0.9)})
        bare = family.make_env(masspole=0.4).unwrapped
        assert bare.masspole == pytest.approx(0.4)
        assert bare.total_mass == pytest.approx(1.4)
        assert bare.polemass_length == pytest.approx(0.2)

    def test_a_keyword_of_make_comes_before_an_attribute(self, made):
        """`gain` is both; `doubled` is no keyword."""
        family = made(COUNTER, {"gain": Range(1.0, 2.0), "doubled": Range(0.0, 1.0)})
        kinds = {k: setter.kind for k, setter in family.agreed.setters.items()}
        assert kinds == {"gain": "keyword", "doubled": "attribute"}

    def test_a_star_makes_it_relative(self, made):
        family = made("MountainCar-v0", {"gravity*": Range(0.5, 2.0)})
        assert family.make_env(gravity=2.0).unwrapped.gravity == pytest.approx(0.005)

    def test_a_users_function(self, made):
        family = made(COUNTER, {"mine": Range(0.0, 5.0)}, functions={"mine": set_bonus})
        _, out = play(family, make_task(family, mine=5.0), acts=torch.zeros(6, 1, 3, 1))
        _, low = play(family, make_task(family, mine=0.0), acts=torch.zeros(6, 1, 3, 1))
        assert_close(out[1][0] - low[1][0], torch.full((1, 3, 1), 5.0))

    def test_labels_reach_the_environment(self, made):
        known = {"map_name": Choice((0.0, 1.0), labels=("4x4", "other"))}
        family = made("FrozenLake-v1", known)
        assert family.settings({"map_name": 0.0}) == {"map_name": "4x4"}

    def test_whole_numbers_are_whole(self, made):
        family = made(COUNTER, {"at": Range(1, 5, integer=True), "gain": Choice((1.0, 2.5))})
        setting = family.settings({"at": 3.0, "gain": 2.5})
        assert [(v, type(v)) for v in setting.values()] == [(3, int), (2.5, float)]

    def test_what_must_be_switched_on_is(self):
        pytest.importorskip("Box2D")
        family = GymnasiumFamily("LunarLander-v3", {"wind_power": Range(0.0, 20.0)})
        assert family.env_config.fixed == {"enable_wind": True}


class TestMujocoFields:
    @pytest.fixture(autouse=True)
    def mujoco(self):
        pytest.importorskip("mujoco")

    def test_by_number_by_name_relative_and_with_what_follows(self, made):
        vary = {
            "gravity[2]": Range(-12.0, -8.0),
            "body_mass[torso]*": Range(0.5, 2.0),
            "geom_friction*": Range(0.5, 2.0),
            "dof_damping[foot_joint]": Range(0.5, 2.0),
        }
        family = made("Hopper-v5", vary, fixed={"max_episode_steps": 30})
        kinds = {setter.kind for setter in family.agreed.setters.values()}
        assert kinds == {"keyword", "MuJoCo field"}
        plain = gymnasium.make("Hopper-v5").unwrapped.model
        values = {"body_mass_torso": 2.0, "geom_friction": 0.5, "dof_damping_foot_joint": 1.5}
        model = family.make_env(gravity_2=-11.0, **values).unwrapped.model
        assert model.opt.gravity.tolist() == [0, 0, -11]
        torso = plain.body("torso").id
        want = plain.body_mass.copy()
        want[torso] *= 2
        np.testing.assert_allclose(model.body_mass, want)
        np.testing.assert_allclose(model.geom_friction, 0.5 * plain.geom_friction)
        assert model.dof_damping[plain.joint("foot_joint").dofadr[0]] == 1.5
        added = plain.body_mass[torso]
        assert model.body_subtreemass[0] == pytest.approx(plain.body_subtreemass[0] + added)

    @pytest.mark.parametrize(
        ("environment", "name", "parts"),
        [
            ("Hopper-v5", "gravity", ("3 numbers", "(3,)", "x, y, z", "gravity[2]", "gravity*")),
            ("Hopper-v5", "geom_friction", ("(5, 3)", "sliding, torsional, rolling", "[floor,0]")),
            ("Hopper-v5", "geom_friction[floor]", ("3 numbers", "[floor,0]", "[floor]*")),
            ("Hopper-v5", "body_mass", ("5 numbers", "torso, thigh, leg, foot", "[torso]")),
            ("Ant-v5", "dof_damping[root]", ("6 numbers", "(14,)", "dof_damping[0]")),
            ("Hopper-v5", "geom_size[floor,0]", ("geom_rbound", "module:function")),
            ("Hopper-v5", "actuator_ctrlrange[0,1]", ("action space", "module:function")),
            ("Hopper-v5", "geom_condim[floor]", ("must be an integer", ":int")),
        ],
    )
    def test_one_value_for_several_numbers_is_refused_with_their_shape_and_names(
        self, environment, name, parts
    ):
        model = gymnasium.make(environment).unwrapped.model
        with pytest.raises(UsageError) as error:
            model_field(model, name, relative=False)(1.5)
        for part in (f"'{name}'", *parts):
            assert part in str(error.value)

    @pytest.mark.parametrize("name", ["body_mass[trunk]", "gravity[7]"])
    def test_a_part_that_is_not_there_is_named(self, made, name):
        family = made("Hopper-v5", {name: Range(1.0, 2.0)})
        with pytest.raises(UsageError, match=r"Hopper-v5: .*(trunk|gravity)"):
            family.horizon  # noqa: B018


@pytest.mark.parametrize(
    ("environment", "vary", "more", "parts"),
    [
        (COUNTER, {"nothing": Range(0, 1)}, {}, ("no parameter 'nothing'", "gain", "bonus")),
        (COUNTER, {"scale": Range(0, 1)}, {}, ("'scale' (keyword) changes nothing", "0.05")),
        ("gym_worlds:Unseeded-v0", GAIN, {}, ("same seed and actions", "np_random")),
        ("gym_worlds:Nothing-v0", GAIN, {}, ("unknown environment", "Nothing")),
        ("CartPole-v9", GAIN, {}, ("unknown environment 'CartPole-v9'",)),
        ("no_module:X-v0", GAIN, {}, ("unknown environment", "no_module")),
        (COUNTER, {}, {}, ("nothing varies", "--vary")),
        (COUNTER, GAIN, {"fixed": {"max_episode_steps": -1}}, ("time limit", "--set max_episode")),
        (COUNTER, {"gain": Choice((0.0, 1.0), labels=("x", 1.0))}, {}, ("gain=x", "TypeError")),
        (
            "FrozenLake-v1",
            {"map_name": Choice((0.0, 1.0), labels=("4x4", "8x8"))},
            {},
            ("equal spaces",),
        ),
        ("ALE/Nothing-v5", {"mode": Choice((0.0, 1.0))}, {}, ("Nothing",)),
    ],
)
def test_what_cannot_be_is_said_in_one_line(made, environment, vary, more, parts):
    def use():
        return made(environment, vary, **more).observation_space

    with pytest.raises(UsageError) as error:
        use()
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


class TestTrouble:
    """Worker processes die, hang, raise, diverge: it is told, and nothing hangs."""

    def family(self, made, tmp_path, trouble, **more):
        fixed = {"folder": str(tmp_path), "trouble": trouble}
        family = made(COUNTER, GAIN, fixed=fixed, **more)
        family.horizon  # noqa: B018  explored in peace
        (tmp_path / "go").touch()
        return family

    @pytest.mark.parametrize("trouble", ["once die", "once hang"])
    def test_a_worker_is_replaced_once_and_its_episodes_are_the_same(self, made, tmp_path, trouble):
        calm = made(COUNTER, GAIN)
        task = sample_tasks(calm, 2, torch.Generator().manual_seed(0))
        family = self.family(made, tmp_path, trouble, step_timeout=1.0)
        assert_close(play(family, task)[1], play(calm, task)[1], rtol=0, atol=0)
        assert (tmp_path / "done").exists()

    @pytest.mark.parametrize(
        ("trouble", "what"),
        [("die", r"died \(exit code -9\)"), ("hang", r"took longer than 1 s")],
    )
    def test_the_second_time_it_ends(self, made, tmp_path, trouble, what):
        family = self.family(made, tmp_path, trouble, step_timeout=1.0)
        with pytest.raises(RunError, match=rf"a worker {what}, and again after") as error:
            play(family, make_task(family, gain=1.25))
        for part in ("Counter-v0", "step 2 of episode", "seed ", "gain=1.25"):
            assert part in str(error.value)

    def test_an_environment_that_raises_is_named(self, made, tmp_path):
        family = self.family(made, tmp_path, "raise")
        with pytest.raises(RunError) as error:
            play(family, make_task(family, gain=1.25))
        for part in ("step 2 of episode", "gain=1.25", "ValueError: no such thing", "replay"):
            assert part in str(error.value)
        assert "\n" not in str(error.value)

    def test_what_diverges_ends_and_is_counted(self, made, tmp_path):
        family = self.family(made, tmp_path, "once nan", workers=1)
        simulator, out = play(family, make_task(family), 3)
        assert simulator.diverged.sum() == 1
        ended = out[3][2][0]
        assert ended.tolist() == simulator.diverged[0].tolist()
        assert all(x.isfinite().all() for step in out for x in step)
