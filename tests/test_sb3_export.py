"""Agents as SB3's PPO: the same distributions, where metarl can't be imported."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from agents_reference import random_params
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from small import TINY, metarl, refused, small
from stable_baselines3 import PPO
from torch.testing import assert_close

from metarl import load, to_vec_env
from metarl import make_task as task_of
from metarl import to_sb3 as export
from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.learners.recurrent_agent import MemoryAgent
from metarl.agents.networks.choose import make_policy
from metarl.agents.networks.policy import act_dist
from metarl.agents.networks.recurrent_policy import MemoryPolicy
from metarl.agents.networks.running_stats import Moments, with_moments
from metarl.agents.rng import stream
from metarl.envs import UsageError, make_family, make_task
from metarl.sb3.interop import save_sb3
from metarl.sb3.weights import from_sb3, to_sb3

SPACES = {
    "box": (Box(-10.0, 10.0, (5,)), Box(-0.1, 0.1, (2,))),
    "uneven box": (Box(-10.0, 10.0, (5,)), Box(np.float32([-1, -30]), np.float32([1, 30]))),
    "keys": (MultiBinary((2, 3)), Discrete(4)),
    "several": (Box(-1.0, 1.0, (2, 3)), MultiDiscrete([3, 2, 4])),
    "bits": (Box(-1.0, 1.0, (3,)), MultiBinary(3)),
    "bytes": (Box(0, 255, (7,), np.uint8), Discrete(3)),
    "picture": (Box(0, 255, (3, 6, 6), np.uint8), Discrete(3)),
}
KINDS = {
    **{name: {"spaces": name} for name in SPACES},
    "context": {"spaces": "box", "context": 3},
    "lora": {"spaces": "keys", "rank": 2},
    "normalised": {"spaces": "box"},
    "normalised picture": {"spaces": "picture"},
    "no hidden layer": {"spaces": "box", "hidden": ()},
    "both": {"spaces": "several", "context": 2, "rank": 1, "hidden": (7,)},
}

PLAIN = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("metarl", "envs", "agents"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
import numpy as np
import torch
from stable_baselines3 import PPO
torch.set_num_threads(1)
for name in sys.argv[1:]:
    given = np.load(name + ".npz")
    model = PPO.load(name + ".zip", device="cpu")
    with torch.no_grad():
        obs, _ = model.policy.obs_to_tensor(given["obs"])
        dist = model.policy.get_distribution(obs)
        logp = dist.log_prob(torch.as_tensor(given["act"]).float())
        mode = dist.mode()
    np.savez(name + "_got.npz", logp=logp, mode=mode)
"""


def some_agent(spaces, hidden=(8, 6), context=0, rank=0, seed=0, seen=None):
    observation_space, action_space = SPACES[spaces]
    family = SimpleNamespace(
        name="mine", observation_space=observation_space, action_space=action_space
    )
    policy = make_policy(family, "mlp", hidden, 0.0, context, rank)
    params = random_params(policy, torch.Generator().manual_seed(seed))
    return family, Agent(with_moments(policy, seen), {k: p.float() for k, p in params.items()}, {})


def normalizing(name):
    if "normalised" not in name:
        return None
    shape = SPACES[KINDS[name]["spaces"]][0].shape
    gen = torch.Generator().manual_seed(3)
    mean, var = (torch.rand(shape, generator=gen, dtype=torch.float64) for _ in range(2))
    return Moments(torch.tensor(9.0), 3 * mean, 4 * var + 0.01)


def made(name):
    return some_agent(**KINDS[name], seed=len(name), seen=normalizing(name))


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What SB3 alone makes of observations: log-probabilities of actions, and modes."""
    folder = tmp_path_factory.mktemp("zips")
    stems, given = [], {}
    for name in KINDS:
        family, agent = made(name)
        family.observation_space.seed(1)
        obs = np.stack([family.observation_space.sample() for _ in range(20)])
        dist = act_dist(agent.policy, agent.params, torch.as_tensor(obs)[None])
        act = dist.sample(dist.noise(gen=torch.Generator().manual_seed(2)))[0]
        stem = str(folder / name.replace(" ", "_"))
        save_sb3(export(agent, family), folder / (name.replace(" ", "_") + ".zip"))
        np.savez(stem + ".npz", obs=obs, act=act)
        stems.append(stem)
        given[name] = (agent, torch.as_tensor(obs), act)
    words = [sys.executable, "-c", PLAIN, *stems]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    got = (dict(np.load(stem + "_got.npz")) for stem in stems)
    return {k: (*given[k], g) for k, g in zip(KINDS, got, strict=True)}


@pytest.mark.parametrize("name", KINDS)
def test_distributions_are_the_same_where_metarl_is_not(answers, name):
    agent, obs, act, got = answers[name]
    params = {k: p.double() for k, p in agent.params.items()}
    dist = act_dist(agent.policy, params, obs[None])
    logp = dist.log_prob(act[None])[0]
    assert logp.std() > 0.01
    if hasattr(dist, "mean"):
        unit = agent.policy.act_scale
        np.testing.assert_allclose(got["mode"] / unit, dist.mean[0] / unit, atol=1e-6, rtol=1e-6)
        np.testing.assert_allclose(np.exp(got["logp"]), logp.exp(), rtol=1e-5)
    else:
        np.testing.assert_allclose(np.exp(got["logp"]), logp.exp(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [k for k in KINDS if "normalised" not in k])
def test_there_and_back_is_the_same_distribution(name):
    family, agent = made(name)
    scale = 1 / 255 if name == "bytes" else 1.0
    bounds = None
    if isinstance(family.action_space, Box):
        low, high = (
            torch.as_tensor(x) for x in (family.action_space.low, family.action_space.high)
        )
        bounds = (low, high)
    plain = to_sb3(agent.policy, agent.params, family.action_space, scale)
    back = from_sb3(agent.policy, plain, family.action_space, bounds, scale)
    fresh = {k: p for k, p in agent.policy.initial().items() if not k.startswith("layers")}
    obs = torch.stack([torch.as_tensor(family.observation_space.sample()) for _ in range(9)])[None]
    want = act_dist(agent.policy, agent.params, obs)
    got = act_dist(agent.policy, {**fresh, **back}, obs)
    acts = want.sample(want.noise())
    assert_close(got.log_prob(acts), want.log_prob(acts), rtol=1e-4, atol=1e-4)
    assert_close(got.entropy(), want.entropy(), rtol=1e-4, atol=1e-4)


def test_actions_of_another_box_are_mapped_linearly_to_ours():
    family, agent = some_agent("box")
    plain = to_sb3(agent.policy, agent.params, family.action_space)
    low, high = torch.tensor([-2.0, 1.0]), torch.tensor([4.0, 2.0])
    back = from_sb3(agent.policy, plain, family.action_space, (low, high))
    obs = torch.randn(1, 9, 5)
    theirs = act_dist(agent.policy, agent.params, obs)
    ours = act_dist(agent.policy, back, obs)
    middle, half = (low + high) / 2, (high - low) / 2
    assert_close(ours.mean / 0.1, (theirs.mean - middle) / half)
    assert_close(ours.log_std.exp() / 0.1, theirs.log_std.exp() / half)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "nav"
    code, _, err = metarl("train point-navigation --threads 1 --quiet", TINY, "--run", folder)
    assert code == 0, err
    return folder


def test_the_slow_weights_go_on_learning_in_sb3(run):
    code, out, _ = metarl("export", run, "--to sb3")
    assert (code, "slow weights" in out) == (0, True)
    family, agent = make_family("point-navigation"), load(run)
    env = to_vec_env(family, make_task(family, goal_x=0.3), copies=4)
    model = PPO.load(run / "sb3.zip", env=env, n_steps=8, batch_size=16, device="cpu")
    assert model.gamma == small("point-navigation").gamma
    obs = env.reset()
    mean = act_dist(agent.policy, agent.params, torch.as_tensor(obs)[None]).mean[0]
    acts, _ = model.predict(obs, deterministic=True)
    np.testing.assert_allclose(acts, mean.clamp(-0.1, 0.1), atol=1e-6)
    before = model.policy.action_net.weight.clone()
    model.learn(64)
    assert (model.policy.action_net.weight != before).all()


def test_weights_are_adapted_to_the_variant_that_is_asked_for(run, tmp_path):
    words = "--variant goal_x=0.3 --variant goal_y=-0.2 --steps 2 --episodes 4 --seed 5 --out"
    code, out, _ = metarl("export", run, words, tmp_path / "mine.zip")
    assert code == 0
    assert "adapted to goal_x=0.3, goal_y=-0.2 in 2 steps of 4 episodes; mean return" in out
    family, agent = make_family("point-navigation"), load(run)
    task, gen = task_of(family, goal_x=0.3, goal_y=-0.2), stream(5, "export")
    agent.play(family, task, 4, gen)  # the return before
    adapted = agent.adapt(family, task, 2, 4, gen)
    model = PPO.load(tmp_path / "mine.zip", device="cpu")
    obs = torch.randn(1, 9, 2)
    want = act_dist(adapted.policy, adapted.params, obs)
    with torch.no_grad():
        got = model.policy.get_distribution(obs[0]).distribution
    assert_close(got.mean, want.mean[0], atol=1e-6, rtol=0)
    assert_close(got.stddev[0], want.log_std.exp().flatten(), atol=1e-6, rtol=0)
    assert not torch.allclose(got.mean, act_dist(agent.policy, agent.params, obs).mean[0])


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--steps 3", ("--steps: there is no variant", "give --variant")),
        ("--variant goal=3", ("no parameter 'goal'", "goal_x in [")),
        ("--variant goal_x=7", ("goal_x=7 is out of bounds",)),
        ("--out /nowhere/at/all.zip", ("--out /nowhere/at/all.zip: no folder /nowhere/at",)),
        ("--to onnx", ("onnx",)),
    ],
)
def test_a_mistake_is_told_in_one_line(run, words, parts):
    refused("export", run, words, code=2, parts=parts)


def test_what_sb3_cannot_hold_is_refused_with_the_reason():
    family = make_family("forager")
    memory = MemoryPolicy(family.observation_space, family.action_space)
    with pytest.raises(UsageError, match="memory adapts its hidden state"):
        export(MemoryAgent(memory, memory.initial()), family)
    picture, _ = some_agent("picture")
    cnn = make_policy(picture, "cnn", (8,), 0.0)
    with pytest.raises(UsageError, match=r"CnnPolicy has other layers .* --network mlp"):
        export(Agent(cnn, cnn.initial(), {}), picture)
    family, agent = some_agent("box")
    two = {k: p.expand(2, *p.shape) for k, p in agent.params.items()}
    with pytest.raises(UsageError, match="adapted to 2 tasks"):
        export(Agent(agent.policy, two, {}), family)
