"""MuJoCo families against Gymnasium's own environments, step by step."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from reference import draw, play, random_acts
from torch.testing import assert_close

from metarl.config.settings import TrainConfig
from metarl.envs import (
    FAMILIES,
    UsageError,
    make_family,
    parameters,
    sample_tasks,
    simulate,
    task_values,
    unseen,
)
from metarl.envs.core.parameters import Choice
from metarl.envs.mujoco.locomotion import Locomotion
from metarl.envs.mujoco.simulator import Physics, load
from metarl.training.meta_train import meta_train

mujoco = pytest.importorskip("mujoco")
NAMES = [name for name, cls in FAMILIES.items() if hasattr(cls, "body")]
EVERY = [make_family(name) for name in NAMES]
ROLLED = [f for f in EVERY if not f.body.forces]
FORCED = [f for f in EVERY if f.body.forces]


def ids(family):
    return family.name


def along(info, angle):
    return info["x_velocity"] * math.cos(angle) + info["y_velocity"] * math.sin(angle)


def goal_distance(env, task):
    x, y = env.unwrapped.data.body(1).xpos[:2]
    return abs(x - task["goal_x"]) + abs(y - task["goal_y"])


# The literature's rewards from what Gymnasium's environment tells of its step.
REWARDS = {
    "half-cheetah-dir": lambda env, i, a, t: t["direction"] * i["x_velocity"] - 0.05 * a,
    "half-cheetah-vel": lambda env, i, a, t: -abs(i["x_velocity"] - t["velocity"]) - 0.05 * a,
    "ant-dir": lambda env, i, a, t: (
        t["direction"] * i["x_velocity"] + 1 - 0.5 * a + i["reward_contact"]
    ),
    "ant-dir-2d": lambda env, i, a, t: along(i, t["angle"]) + 1 - 0.5 * a + i["reward_contact"],
    "ant-vel": lambda env, i, a, t: (
        1.05 - abs(i["x_velocity"] - t["velocity"]) - 0.005 * a + i["reward_contact"]
    ),
    "ant-goal": lambda env, i, a, t: -goal_distance(env, t) - 0.1 * a + i["reward_contact"],
    "humanoid-dir": lambda env, i, a, t: (
        1.25 * along(i, t["angle"]) + 5 - 0.1 * a + i["reward_contact"]
    ),
    "walker2d-rand-params": lambda env, i, a, t: i["x_velocity"] + 1 - 0.001 * a,
    "hopper-rand-params": lambda env, i, a, t: i["x_velocity"] + 1 - 0.001 * a,
    "half-cheetah-mass": lambda env, i, a, t: i["x_velocity"] - 0.1 * a,
    "half-cheetah-friction": lambda env, i, a, t: i["x_velocity"] - 0.1 * a,
    "half-cheetah-damping": lambda env, i, a, t: i["x_velocity"] - 0.1 * a,
    "half-cheetah-gravity": lambda env, i, a, t: i["x_velocity"] - 0.1 * a,
}


def gymnasium_state(env, simulator, n, b):
    """Put Gymnasium's environment where an episode is, without memory of any other."""
    mujoco.mj_resetData(env.unwrapped.model, env.unwrapped.data)
    physics = simulator.physics
    env.unwrapped.set_state(physics.qpos[n, b].numpy(), physics.qvel[n, b].numpy())


def started(family, n=4, episodes=2, seed=0):
    task = draw(family, n, seed=seed)
    simulator = simulate(family, task, episodes, torch.Generator().manual_seed(seed))
    return task, simulator, simulator.reset()


@pytest.mark.parametrize("family", EVERY, ids=ids)
def test_every_step_is_gymnasiums(family):
    """Random play of whole episodes, Gymnasium's environments running along beside them."""
    task, simulator, obs = started(family)
    envs = {}
    for n, values in enumerate(task_values(task)):
        for b in range(2):
            env = envs[n, b] = family.make_env(**values)
            env.reset()
            gymnasium_state(env, simulator, n, b)
            assert_close(
                obs[n, b].double(), torch.from_numpy(env.unwrapped._get_obs()), rtol=1e-6, atol=1e-6
            )
    ends = 0
    for act in random_acts(family, (60, 4, 2), seed=1):
        if not family.body.forces:  # chaos would blow 1e-13 up
            for (n, b), env in envs.items():
                gymnasium_state(env, simulator, n, b)
        obs, rew, terminated, truncated = simulator.step(act)
        assert not truncated.any()
        for (n, b), env in list(envs.items()):
            a = act[n, b].numpy()
            want, _, end, _, info = env.step(a)
            t = task_values(task)[n]
            worth = REWARDS[family.name](env, info, np.square(a.astype(float)).sum(), t)
            assert_close(obs[n, b].double(), torch.from_numpy(want), rtol=1e-6, atol=1e-6)
            assert rew[n, b].item() == pytest.approx(worth, rel=1e-6, abs=1e-6)
            assert terminated[n, b].item() == end
            if end:
                ends += 1
                del envs[n, b]
    assert not simulator.diverged.any()
    if family.name in ("humanoid-dir", "walker2d-rand-params", "hopper-rand-params"):
        assert ends > 0


@pytest.mark.parametrize("family", FORCED, ids=ids)
def test_whole_episodes_are_gymnasiums_to_the_last_bit(family):
    """The memory of the constraint solver included."""
    task, simulator, _ = started(family, 2, 3)
    env = family.make_env(**task_values(task)[1]).unwrapped
    gymnasium_state(env, simulator, 1, 1)
    for act in random_acts(family, (60, 2, 3), seed=1):
        end = simulator.step(act)[2][1, 1]
        env.step(act[1, 1].numpy())
        assert_close(simulator.physics.qpos[1, 1].numpy(), env.data.qpos, rtol=0, atol=0)
        assert_close(simulator.physics.contact[1, 1].numpy(), env.data.cfrc_ext, rtol=0, atol=0)
        if end:
            break


@pytest.mark.parametrize("family", FORCED, ids=ids)
def test_contact_costs_something(family):
    """So the test above has compared it."""
    _, simulator, _ = started(family)
    cost = torch.zeros(4, 2, dtype=torch.float64)
    for act in random_acts(family, (30, 4, 2)):
        simulator.step(act)
        cost += simulator.physics.contact.square().sum((-1, -2))
    assert cost.mean() > 1


@pytest.mark.parametrize("family", EVERY, ids=ids)
def test_body_is_gymnasiums(family):
    env, body = family.make_env(), family.body
    own = env.unwrapped
    assert env.observation_space.shape == family.observation_space.shape
    assert env.action_space == family.action_space
    assert (own.frame_skip, own._reset_noise_scale) == (body.frame_skip, body.noise)
    assert own.dt == pytest.approx(body.dt, rel=1e-12)
    assert env.spec.max_episode_steps == family.horizon


@pytest.mark.parametrize("family", EVERY, ids=ids)
def test_what_is_seen_and_when_it_ends_is_gymnasiums_in_any_state(family):
    """States about the limits of health, and speeds beyond those that are shown."""
    env = family.make_env().unwrapped
    n, rng = 400, np.random.default_rng(0)
    spread = rng.choice([0.05, 0.3, 1.0], (n, 1))
    qpos = env.init_qpos + spread * rng.uniform(-1, 1, (n, env.model.nq))
    qpos[::7, -1] += 150
    qvel = rng.uniform(-20, 20, (n, env.model.nv))
    qvel[::9, 0] = 101
    none = torch.zeros(1, n, 0, 3)
    physics = Physics(torch.from_numpy(qpos)[None], torch.from_numpy(qvel)[None], none, none)
    seen, healthy = family.observe(physics)[0], family.healthy(physics)[0]
    if env.spec.id != "HalfCheetah-v5" and family.name != "ant-goal":
        assert healthy.any()
        assert not healthy.all()
    for i in range(n):
        env.set_state(qpos[i], qvel[i])
        assert_close(seen[i], torch.from_numpy(env._get_obs()), rtol=0, atol=0)
        if hasattr(env, "is_healthy") and family.name != "ant-goal":
            assert healthy[i].item() == env.is_healthy
        else:
            assert healthy[i]


@pytest.mark.parametrize("family", EVERY, ids=ids)
def test_episodes_start_like_gymnasiums(family):
    """Means, spreads and extremes of 4,000 starts, in units of the noise."""
    _, simulator, _ = started(family, 1, 4000)
    q = simulator.physics.qpos[0] - torch.from_numpy(load(family.body.xml).qpos0)
    q, v = q / family.body.noise, simulator.physics.qvel[0] / family.body.noise
    assert q.abs().max() <= 1
    for x, normal in ((q, False), (v, family.body.normal_speeds)):
        assert x.mean(0).abs().max() < 0.08
        want = 1.0 if normal else 1 / math.sqrt(3)
        assert_close(x.std(0), torch.full_like(x[0], want), rtol=0.06, atol=0)
        assert (x.abs().max() > 3) == normal
        assert torch.cat((q, v), 1).T.corrcoef().triu(1).abs().max() < 0.1


@pytest.mark.parametrize("family", EVERY, ids=ids)
def test_results_depend_on_the_seed_alone_and_not_on_the_threads(family):
    def played(threads, seed):
        replaced = type(family)(threads=threads)
        task, acts = draw(family, 3), random_acts(family, (12, 3, 5), seed=2)
        simulator = simulate(replaced, task, 5, torch.Generator().manual_seed(seed))
        out = [simulator.reset()]
        return torch.cat([out[0].flatten()] + [simulator.step(a)[0].flatten() for a in acts])

    one = played(1, 0)
    for threads in (1, 2, 3):
        assert_close(played(threads, 0), one, rtol=0, atol=0)
    assert not torch.equal(played(1, 1), one)


@pytest.mark.parametrize("family", EVERY, ids=ids)
def test_every_parameter_is_live(family):
    """Move one parameter alone: in some task what the agent sees or gets must change."""
    family = type(family)(horizon=60)
    task = draw(family, 16)
    before = play(family, task, episodes=2)
    for name, known in parameters(family).items():
        values = known.values if isinstance(known, Choice) else known.bounds
        for value in values:
            moved = task._replace(**{name: torch.full_like(getattr(task, name), value)})
            after = play(family, moved, episodes=2)
            changed = [not torch.equal(x, y) for x, y in zip(before, after, strict=True)]
            assert any(changed), f"{name}={value} is dead"


@pytest.mark.parametrize("family", EVERY, ids=ids)
def test_batch_rows_do_not_talk(family):
    """An episode goes on its way whatever the others do, though some of them end."""
    _, many, _ = started(family, 3, 4)
    _, other, _ = started(family, 3, 4)
    for act in random_acts(family, (40, 3, 4), seed=3):
        noise = torch.randn(act.shape, generator=torch.Generator().manual_seed(4))
        disturbed = act + noise
        disturbed[1, 2] = act[1, 2]
        got, want = many.step(disturbed), other.step(act)
        assert_close([x[1, 2] for x in got], [x[1, 2] for x in want], rtol=0, atol=0)
    assert not torch.equal(got[0], want[0])


@pytest.mark.parametrize("family", EVERY, ids=ids)
def test_types_shapes_and_actions_outside_the_box(family):
    _, simulator, obs = started(family)
    _, clipped, _ = started(family)
    reach = family.body.reach
    act = 3 * reach * torch.randn(4, 2, family.body.acts)
    got, want = simulator.step(act), clipped.step(act.clamp(-reach, reach))
    assert_close(got, want, rtol=0, atol=0)
    assert got[0].shape == obs.shape == (4, 2, *family.observation_space.shape)
    assert got[0].dtype == got[1].dtype == obs.dtype == torch.float32
    assert got[1].shape == got[2].shape == got[3].shape == (4, 2)
    assert got[2].dtype == got[3].dtype == torch.bool


@pytest.mark.parametrize("family", [ROLLED[0], ROLLED[-1], FORCED[0], FORCED[-1]], ids=ids)
@pytest.mark.parametrize("how", ["speed", "position", "action", "first"])
def test_a_simulation_that_breaks_down_ends_its_episode_alone(family, how):
    _, simulator, _ = started(family, 2, 3)
    _, other, _ = started(family, 2, 3)
    act = random_acts(family, (3, 2, 3))
    if how != "first":
        simulator.step(act[0])
        other.step(act[0])
    bad = act[1].clone()
    if how == "action":
        bad[1, 1] = math.nan
    else:
        at = 1 if how == "position" else simulator.model.nq + 2
        simulator.state[4, at] = math.inf if how == "position" else 1e15
    obs, rew, terminated, _ = simulator.step(bad)
    want = other.step(act[1])
    here = torch.zeros(2, 3, dtype=torch.bool)
    here[1, 1] = True
    assert_close(simulator.diverged, here)
    assert_close(terminated, here)
    assert obs[~here].isfinite().all()
    assert rew.isfinite().all()
    assert rew[1, 1] == 0
    assert_close((obs[~here], rew[~here]), (want[0][~here], want[1][~here]), rtol=0, atol=0)
    again = simulator.step(act[2])
    assert again[2][1, 1]
    assert again[1][1, 1] == 0
    simulator.reset()
    assert not simulator.diverged.any()
    assert not simulator.step(act[0])[2].any()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["half-cheetah-gravity", "ant-dir"])
def test_an_impossible_world_breaks_down_quietly_and_stays_finite(
    name, threads, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)

    class Wild(FAMILIES[name]):
        def shape(self, model, values):
            model.opt.gravity[2] = -1e14

    wild = Wild(threads=threads)
    task = draw(wild, 3)
    simulator = simulate(wild, task, 2, torch.Generator().manual_seed(0))
    obs = simulator.reset()
    for act in random_acts(wild, (5, 3, 2)):
        obs, rew, terminated, _ = simulator.step(act)
        assert obs.isfinite().all()
        assert rew.isfinite().all()
    assert simulator.diverged.all()
    assert terminated.all()
    assert list(tmp_path.iterdir()) == [], "MuJoCo left a log"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["hopper-rand-params", "humanoid-dir"])
def test_an_episode_that_has_ended_stands_still(name):
    family = make_family(name)
    _, simulator, _ = started(family, 3, 3)
    ended = torch.zeros(3, 3, dtype=torch.bool)
    last = None
    for act in random_acts(family, (family.horizon, 3, 3)):
        obs, rew, terminated, _ = simulator.step(act)
        assert (terminated | ~ended).all()
        if last is not None:
            assert_close(obs[ended], last[ended], rtol=0, atol=0)
        assert (rew[ended] == 0).all()
        ended, last = terminated, obs
    assert ended.all()


def limp(family, n=20):
    """Mean return without torques."""
    task = draw(family, n)
    simulator = simulate(family, task, 2, torch.Generator().manual_seed(0))
    simulator.reset()
    total, mask = torch.zeros(n, 2), torch.ones(n, 2, dtype=torch.bool)
    for _ in range(family.horizon):
        _, rew, terminated, _ = simulator.step(torch.zeros(n, 2, family.body.acts))
        total += rew * mask
        mask &= ~terminated
    return total, task


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("half-cheetah-dir", -2, 2),
        ("half-cheetah-mass", -2, 2),
        ("half-cheetah-friction", -2, 2),
        ("half-cheetah-damping", -2, 2),
        ("half-cheetah-gravity", -2, 2),
        ("ant-dir", 195, 203),
        ("ant-dir-2d", 195, 203),
        ("humanoid-dir", 185, 215),
        ("walker2d-rand-params", 70, 110),
        ("hopper-rand-params", 135, 175),
    ],
)
def test_what_going_limp_gets(name, low, high):
    total, _ = limp(make_family(name))
    assert low < total.mean() < high


@pytest.mark.parametrize(("name", "bonus"), [("half-cheetah-vel", 0.0), ("ant-vel", 1.05)])
def test_what_standing_still_gets_where_a_speed_is_asked_for(name, bonus):
    family = make_family(name)
    total, task = limp(family)
    assert_close(total.mean(1), family.horizon * (bonus - task.velocity[:, 0]), rtol=0, atol=8)


def test_what_standing_still_gets_where_a_goal_is_asked_for():
    total, task = limp(make_family("ant-goal"))
    want = -200 * (task.goal_x.abs() + task.goal_y.abs())[:, 0]
    assert_close(total.mean(), want.mean(), rtol=0.05, atol=0)
    assert torch.stack((total.mean(1), want)).corrcoef()[0, 1] > 0.95


@pytest.mark.parametrize("name", ["walker2d-rand-params", "hopper-rand-params"])
class TestRandParams:
    def test_every_element_of_the_model_has_its_multiplier(self, name):
        """All bodies and damped joints; of the geoms those that can touch the ground alive."""
        family = make_family(name)
        model = load(family.body.xml)
        known = parameters(family)
        bodies = [model.body(i).name for i in range(1, model.nbody)]
        damped = [model.joint(i).name for i in range(model.njnt) if model.joint(i).damping[0] > 0]
        for field, owners in (("body_mass", bodies), ("body_inertia", bodies)):
            assert [k for k in known if k.startswith(field)] == [f"{field}_{o}" for o in owners]
        mine = [k for k in known if k.startswith("dof_damping")]
        assert [f"{k.removeprefix('dof_damping_')}_joint" for k in mine] == damped
        assert all(k in known for k in ("geom_friction_floor", "geom_friction_foot"))
        for k, p in known.items():
            limit = (1.3 if k.startswith("dof") else 1.5) ** 3
            assert (p.low, p.high, p.log) == (pytest.approx(1 / limit), pytest.approx(limit), True)
        assert family.task_type._fields == tuple(known)

    def test_multipliers_change_their_element_alone(self, name):
        family = make_family(name)
        own = load(family.body.xml)
        fields = ("body_mass", "body_inertia", "geom_friction", "dof_damping")
        for k in parameters(family):
            (model,) = family.models(
                family.task_type(
                    **{j: torch.tensor([[2.0 if j == k else 1.0]]) for j in parameters(family)}
                )
            )
            field, owner = "_".join(k.split("_")[:2]), k.split("_", 2)[2]
            for f in fields:
                factor = np.ones(getattr(own, f).shape)
                if f == field:
                    kind = {"b": own.body, "g": own.geom, "d": own.joint}[f[0]]
                    suffix = {"g": "_geom", "d": "_joint"}.get(f[0], "")
                    suffix = "" if owner == "floor" else suffix
                    at = kind(owner + suffix)
                    factor[at.dofadr[0] if f[0] == "d" else at.id] = 2
                np.testing.assert_allclose(getattr(model, f), factor * getattr(own, f))

    def test_what_is_left_out_does_nothing(self, name):
        """Friction of what can't touch the ground alive; inertia about axes outside the plane."""
        family = make_family(name)

        class Other(type(family)):
            def shape(self, model, values):
                super().shape(model, values)
                model.geom_friction[:, 1:] *= 3
                for i in range(1, model.ngeom):
                    owner = model.geom(i).name.removesuffix("_geom")
                    if f"geom_friction_{owner}" not in values:
                        model.geom_friction[i] *= 3
                turned = np.zeros(9)
                for i in range(1, model.nbody):
                    mujoco.mju_quat2Mat(turned, model.body_iquat[i])
                    assert abs(turned[4]) > 0.999  # the second principal axis is the hinges'
                    model.body_inertia[i, [0, 2]] *= 1.2

        task = draw(family, 8)
        for x, y in zip(play(family, task), play(Other(), task), strict=True):
            assert_close(x, y, rtol=0, atol=0)


VARYING = [f for f in EVERY if type(f).shape is not Locomotion.shape]


@pytest.mark.parametrize("family", VARYING, ids=ids)
def test_what_mujoco_derives_follows_the_parameters(family):
    for model in family.models(draw(family, 3)):
        assert model.body_subtreemass[0] == pytest.approx(model.body_mass.sum())
        fresh = mujoco.MjData(model)
        weights = model.dof_invweight0.copy()
        mujoco.mj_setConst(model, fresh)
        np.testing.assert_allclose(model.dof_invweight0, weights)
    own = load(family.body.xml)
    assert own.body_subtreemass[0] == pytest.approx(own.body_mass.sum())


def test_scales_and_gravity_are_those_of_the_model():
    own = load("half_cheetah.xml")
    for name, field in (("mass", "body_mass"), ("friction", "geom_friction")):
        family = make_family(f"half-cheetah-{name}")
        task = draw(family, 3)
        for model, values in zip(family.models(task), task_values(task), strict=True):
            np.testing.assert_allclose(getattr(model, field), values["scale"] * getattr(own, field))
    family = make_family("half-cheetah-gravity")
    (model,) = family.models(family.task_type(torch.tensor([[5.0]])))
    assert model.opt.gravity.tolist() == [0, 0, -5]
    assert own.opt.gravity.tolist() == [0, 0, -9.81], "the shared model was changed"


def test_a_limp_ant_feels_only_the_angle_in_its_reward():
    """Tasks of a family without variants of the body share one model."""
    family = make_family("ant-dir-2d")
    models = family.models(draw(family, 5))
    assert all(model is load("ant.xml") for model in models)


def test_importing_needs_no_mujoco_and_using_says_what_to_install(monkeypatch):
    code = (
        "import sys; sys.modules['mujoco'] = None; from metarl import envs\n"
        "try: envs.make_family('half-cheetah-vel')\n"
        "except envs.UsageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "half-cheetah-vel needs mujoco, which isn't installed: "
        'pip install "metarl-toolkit[mujoco]"\n'
    )
    code = "import sys, metarl.envs; print('mujoco' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    family = make_family("ant-vel")
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(UsageError, match="ant-vel needs mujoco"):
        simulate(family, draw(family), 2, None)


def test_film_shows_the_first_episode():
    family = make_family("half-cheetah-vel")
    if not family.can_be_filmed():
        pytest.skip("MuJoCo can't draw here: set MUJOCO_GL")
    task = sample_tasks(family, 2, torch.Generator().manual_seed(0))
    simulator = simulate(family, task, 2, torch.Generator().manual_seed(0), render=True)
    simulator.reset()
    first = simulator.frame()
    assert (first.shape, str(first.dtype)) == ((240, 320, 3), "uint8")
    simulator.step(torch.ones(2, 2, 6))
    assert (simulator.frame() != first).any()


@pytest.mark.parametrize("name", ["half-cheetah-vel", "hopper-rand-params"])
def test_training_resumed_equals_training_that_never_stopped(name):
    cfg = TrainConfig(family=name, iterations=2, tasks=2, episodes=2, hidden=(8,))
    family = type(make_family(name))(horizon=20)
    whole = list(meta_train(cfg, family))
    half = next(meta_train(cfg, family))
    (rest,) = meta_train(cfg, family, half)
    assert rest.metrics == whole[-1].metrics
    assert_close(rest.agent.params, whole[-1].agent.params, rtol=0, atol=0)


def test_a_two_way_family_has_no_unseen_tasks():
    for name in ("half-cheetah-dir", "ant-dir"):
        assert unseen(make_family(name)) == "none: training sees every task"
    assert unseen(make_family("ant-dir-2d")) == "an independent stream of draws"


def test_it_says_when_all_episodes_are_over():
    _, simulator, _ = started(make_family("humanoid-dir"), 2, 2)
    for act in random_acts(simulator.family, (200, 2, 2)):
        assert not simulator.over
        if simulator.step(act)[2].all():
            break
    assert simulator.over
