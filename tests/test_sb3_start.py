"""Meta-training from an SB3 model: its policy, nothing unpickled, errors that name both sides."""

import base64
import dataclasses
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from small import refused, small
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.vec_env import VecNormalize
from torch.testing import assert_close

from metarl import RunConfig, meta_train, open_run, start, to_vec_env, train_in
from metarl.agents.networks.policy import act_dist
from metarl.envs import UsageError, make_family, make_task
from metarl.sb3.archive import read_model
from metarl.training.initialization import first_state

HIDDEN = (8, 6)


def some_env(name="point-navigation", **how):
    family = make_family(name)
    env = to_vec_env(family, make_task(family), copies=2, **how)
    env.seed(0)
    return family, env


def model_of(env, learner=PPO, **more):
    policy = {"net_arch": list(HIDDEN), **more}
    model = learner("MlpPolicy", env, n_steps=8, policy_kwargs=policy, device="cpu", seed=0)
    with torch.no_grad():
        for p in model.policy.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model in point-navigation, and its zip."""
    path = tmp_path_factory.mktemp("models") / "nav.zip"
    model = model_of(some_env()[1])
    model.save(path)
    return model, str(path)


def settings(name="point-navigation", **more):
    return small(name, **{"hidden": HIDDEN, **more})


def agrees(model, state, obs, unit=1.0, seen=None):
    """Whether the agent acts as the model does, whose actions are `unit` of the agent's."""
    with torch.no_grad():
        theirs = model.policy.get_distribution(torch.as_tensor(obs if seen is None else seen))
    ours = act_dist(state.agent.policy, state.agent.params, torch.as_tensor(obs)[None])
    if hasattr(ours, "logits"):
        want = theirs.distribution.probs
        assert_close(ours.logits[0].softmax(-1), want, atol=1e-5, rtol=1e-4)
    else:
        assert_close(ours.mean[0], unit * theirs.distribution.mean, atol=1e-6, rtol=1e-4)
        std = unit * theirs.distribution.stddev[:1]
        assert_close(ours.log_std.exp().view(1, -1), std, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("fast", ["all", "context", "lora"])
def test_the_agent_starts_as_the_model(saved, fast):
    model, path = saved
    family = make_family("point-navigation")
    state = first_state(settings(init_from=path, fast=fast), family)
    agrees(model, state, np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32))


def test_choices_start_as_the_models(tmp_path):
    family, env = some_env("forager")
    model = model_of(env, A2C)
    model.save(tmp_path / "model.zip")
    state = first_state(settings("forager", init_from=str(tmp_path / "model.zip")), family)
    agrees(model, state, np.random.default_rng(0).integers(0, 2, (9, *env.observation_space.shape)))


def test_a_model_that_acts_in_another_box_is_mapped_to_ours(tmp_path):
    family, env = some_env(unit_actions=True)
    model = model_of(env)
    model.save(tmp_path / "model.zip")
    state = first_state(settings(init_from=str(tmp_path / "model.zip")), family)
    obs = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    agrees(model, state, obs, unit=float(family.action_space.high[0]))


def rewritten(path, to, **parts):
    """A copy of a zip with some of its files changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            new.writestr(name, parts.get(name.split(".")[0], old.read(name)))
    return str(to)


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_what_is_pickled_in_a_zip_stays_closed(saved, tmp_path):
    mark = tmp_path / "went off"
    bomb = pickle.dumps(Bomb(mark))
    with zipfile.ZipFile(saved[1]) as archive:
        data = json.loads(archive.read("data"))
    for item in data.values():
        if isinstance(item, dict) and ":serialized:" in item:
            item[":serialized:"] = base64.b64encode(bomb).decode()
    armed = rewritten(saved[1], tmp_path / "data.zip", data=json.dumps(data))
    assert read_model(armed).sizes == (2, 8, 6, 2)
    armed = rewritten(saved[1], tmp_path / "weights.zip", policy=bomb)
    with pytest.raises(UsageError, match="not an SB3 model"):
        read_model(armed)
    assert not mark.exists()
    pickle.loads(bomb)
    assert mark.exists(), "the bomb was none"


def test_a_run_goes_on_without_the_zip(saved, tmp_path):
    path, folder = Path(shutil.copy(saved[1], tmp_path / "gone.zip")), tmp_path / "run"
    cfg = settings(init_from=str(path), iterations=2)
    family = make_family("point-navigation")
    job = start(folder, cfg, RunConfig(threads=1, eval_every=100))
    obs = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    agrees(saved[0], job.state, obs)
    begun = open_run(folder, begin=True)  # killed before its first checkpoint
    agrees(saved[0], begun.state, obs)
    trained = train_in(folder, job)
    path.unlink()
    found = open_run(folder)
    assert (found.train.init_from, found.started_from["init_from"]) == ("", str(path))
    assert_close(found.state.agent.params, trained.agent.params, rtol=0, atol=0)
    assert found.state.iteration == 2
    *_, last = meta_train(dataclasses.replace(cfg, iterations=3), family, found.state)
    assert last.iteration == 3


def behind(env, **how):
    """SB3's normaliser after some steps."""
    normal = VecNormalize(env, clip_obs=1000.0, **how)
    normal.reset()
    for _ in range(20):
        normal.step(np.stack([env.action_space.sample() for _ in range(env.num_envs)]))
    return normal


@pytest.mark.parametrize("normalize_obs", [False, True])
def test_what_the_model_was_trained_behind_comes_along(tmp_path, normalize_obs):
    family, env = some_env("cartpole")
    normal = behind(env)
    model = model_of(normal)
    model.save(tmp_path / "model.zip")
    normal.save(str(tmp_path / "normal.pkl"))
    cfg = settings(
        "cartpole",
        init_from=str(tmp_path / "model.zip"),
        init_normalize=str(tmp_path / "normal.pkl"),
        trust=True,
        normalize_obs=normalize_obs,
    )
    state = first_state(cfg, family)
    obs = np.random.default_rng(0).normal(0, 0.2, (9, 4)).astype(np.float32)
    agrees(model, state, obs, seen=normal.normalize_obs(obs))
    assert (state.running_stats.obs is not None) == normalize_obs
    if normalize_obs:
        assert_close(state.running_stats.obs.mean, torch.as_tensor(normal.obs_rms.mean))


def test_errors_name_both_sides(saved, tmp_path):
    path = saved[1]

    def told(cfg, name="point-navigation"):
        with pytest.raises(UsageError) as error:
            first_state(cfg, make_family(name))
        return str(error.value)

    text = told(settings(init_from=path, hidden=(5,)))
    assert "its network is 2-8-6-2" in text
    assert "this one would be 2-5-2: give --hidden 8 6" in text
    text = told(settings("forager", init_from=path), "forager")
    assert "its actions are Box, forager takes Discrete(4)" in text
    text = told(settings("pendulum", init_from=path), "pendulum")
    assert "takes observations of shape (2,), pendulum gives (3,)" in text
    text = told(settings("breakout", init_from=path, network="cnn"), "breakout")
    assert "give --network mlp" in text
    assert "No such file" in told(settings(init_from=str(tmp_path / "none.zip")))
    (tmp_path / "text.zip").write_text("no zip")
    assert "not an SB3 model" in told(settings(init_from=str(tmp_path / "text.zip")))


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda env: model_of(env, activation_fn=torch.nn.ReLU), "its activation is ReLU"),
        (lambda env: DQN("MlpPolicy", env, buffer_size=10), "not an MlpPolicy of PPO, A2C or TRPO"),
    ],
)
def test_models_with_another_policy_are_refused(tmp_path, make, part):
    family, env = some_env("cartpole")
    make(env).save(tmp_path / "model.zip")
    with pytest.raises(UsageError, match=part):
        first_state(settings("cartpole", init_from=str(tmp_path / "model.zip")), family)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--init-normalize x.pkl", ("without --init-from", "give the model")),
        ("--init-from x.zip --init-normalize x.pkl", ("it is a pickle", "give --trust")),
        ("--init-from x.zip --normalize-obs", ("give the --init-normalize",)),
        ("--init-from x.zip --algo rl2", ("an MlpPolicy has no memory",)),
        ("--init-from nowhere.zip", ("--init-from nowhere.zip: No such file",)),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path, words, parts):
    refused("train point-navigation", words, "--run", tmp_path / "run", code=2, parts=parts)
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_normaliser_is_refused(saved, tmp_path):
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"mean": 0}))
    cfg = settings(init_from=saved[1], init_normalize=str(tmp_path / "other.pkl"), trust=True)
    with pytest.raises(UsageError, match="not a VecNormalize of flat observations"):
        first_state(cfg, make_family("point-navigation"))
