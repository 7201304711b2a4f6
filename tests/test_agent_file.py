"""An agent in one file comes back as it was, to the bit, whatever it is."""

import dataclasses

import pytest
import torch
from gymnasium.spaces import MultiBinary
from planes import Lamp
from reference import draw
from small import small

import metarl
from metarl.agent_files import agent_file
from metarl.agents.inner.estimators import ESTIMATORS, lvc
from metarl.agents.inner.fast_weights import FAST
from metarl.agents.learners.gradient_agent import Agent, InnerRule
from metarl.agents.networks.policy import MLP
from metarl.agents.networks.running_stats import Moments
from metarl.config.published import ALGORITHMS
from metarl.envs import UsageError, make_family
from metarl.outer.train_state import RunningStats, named_weights, normalizing, with_weights
from metarl.training.new_agent import new_agent

STEP_SIZES = ("fixed", "per-tensor", "per-weight", "per-step")


@dataclasses.dataclass(frozen=True)
class Switches(Lamp):
    """Two switches in place of four keys."""

    several: bool = True

    @property
    def action_space(self):
        return MultiBinary(2)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def moments(shape):
    return Moments(torch.tensor(9.0).double(), *torch.rand(2, *shape, generator=gen(5)).double())


def grown(family, algo="promp", normalized=(), **settings):
    """An agent as training might leave it: no weight is as it was drawn."""
    agent = new_agent(small("point-navigation", algo, **settings), family)
    draws = gen(1)
    agent = with_weights(
        agent,
        {
            k: w + 0.2 * torch.rand(w.shape, generator=draws)
            for k, w in named_weights(agent).items()
        },
    )
    obs = moments(family.observation_space.shape) if "obs" in normalized else None
    ret = moments(()) if "ret" in normalized else None
    return normalizing(agent, RunningStats(obs, ret))


def parts(agent):
    """Every tensor, in the agent's own order."""
    policy = agent.policy
    memory = getattr(agent, "memory", None)
    return {
        **named_weights(agent),
        **{f"buffer/{k}": x for k, x in policy.named_buffers()},
        **(memory._asdict() if memory else {}),
    }


def same(one, two):
    assert type(one) is type(two)
    assert type(one.policy) is type(two.policy)
    assert one.policy.spaces == two.policy.spaces
    assert list(parts(one)) == list(parts(two))
    for (name, x), y in zip(parts(one).items(), parts(two).values(), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape), name
        assert torch.equal(x, y), name
    if isinstance(one, Agent):
        assert (one.rule, one.steps) == (two.rule, two.steps)


def comes_back(agent, family, path, steps=2):
    """Saved, opened, and then both act and adapt alike; also once they have adapted."""
    task = draw(family, 2)
    agent.save(path)
    other = metarl.load_agent(path)
    same(agent, other)
    for _ in range(steps):
        data, again = (a.play(family, task, 3, gen(3)) for a in (agent, other))
        assert all(map(torch.equal, data[:5], again[:5]))
        agent, other = agent.learn(data), other.learn(again)
        same(agent, other)
        agent.save(path)
        other = metarl.load_agent(path)
        same(agent, other)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_an_agent_of_every_algorithm_comes_back(algo, tmp_path):
    family = make_family("point-navigation")
    comes_back(grown(family, algo), family, tmp_path / "agent")


@pytest.mark.parametrize("step_size", STEP_SIZES)
@pytest.mark.parametrize("fast", FAST)
def test_every_choice_of_fast_weights_and_step_sizes_comes_back(fast, step_size, tmp_path):
    family = make_family("point-navigation")
    agent = grown(family, fast=fast, step_size=step_size, inner_steps=2, hidden=(6, 5))
    comes_back(agent, family, tmp_path / "agent")


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        (make_family("forager"), {}),
        (make_family("cartpole"), {"hidden": ()}),
        (Lamp(), {"network": "cnn"}),
        (Lamp(bytes=True, size=36), {"network": "cnn", "fast": "lora"}),
        (Lamp(several=True), {"network": "mlp"}),
        (Switches(bytes=True), {"network": "cnn", "normalized": ("obs",)}),
        (Switches(), {"algo": "rl2"}),
        (Lamp(bytes=True), {"algo": "fwp", "normalized": ("obs", "ret")}),
        (make_family("point-navigation"), {"algo": "rl2", "normalized": ("ret",)}),
        (make_family("point-navigation"), {"normalized": ("obs",), "baseline": "learned"}),
    ],
)
def test_every_kind_of_network_and_space_comes_back(family, settings, tmp_path):
    comes_back(grown(family, **settings), family, tmp_path / "agent")


def test_every_field_of_the_inner_rule_comes_back(tmp_path):
    rule = InnerRule(0.8, 0.7, "none", "dice", 0.6, 0.5, 0.4, 3)
    for field in dataclasses.fields(InnerRule)[:-1]:  # the last is told by the step sizes
        assert getattr(rule, field.name) != field.default
    agent = dataclasses.replace(grown(make_family("cartpole")), rule=rule, steps=4)
    agent.save(tmp_path / "agent")
    same(agent, metarl.load_agent(tmp_path / "agent"))


def test_a_trained_agent_comes_back_without_its_run(tmp_path):
    family = make_family("point-navigation")
    cfg = small("point-navigation", normalize_obs=True, iterations=2)
    *_, state = metarl.meta_train(cfg, family)
    comes_back(state.agent, family, tmp_path / "agent")
    assert [p.name for p in tmp_path.iterdir()] == ["agent"]


def test_a_custom_estimator_is_found_by_its_name_once_it_is_there(tmp_path, monkeypatch):
    monkeypatch.setitem(ESTIMATORS, "mine", lvc)
    agent = grown(make_family("cartpole"), estimator="mine")
    agent.save(tmp_path / "agent")
    same(agent, metarl.load_agent(tmp_path / "agent"))
    monkeypatch.delitem(ESTIMATORS, "mine")
    with pytest.raises(UsageError, match="mine: unknown; give one of lvc, "):
        metarl.load_agent(tmp_path / "agent")


def test_a_custom_network_is_refused(tmp_path):
    class Mine(MLP):
        pass

    agent = grown(make_family("cartpole"))
    mine = Mine(*agent.policy.spaces, (8,))
    with pytest.raises(UsageError, match=r"^Mine is a network that an agent's file can't describe"):
        dataclasses.replace(agent, policy=mine).save(tmp_path / "agent")
    assert not [*tmp_path.iterdir()]


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    agent = grown(make_family("cartpole"))
    bad = with_weights(agent, {"params/layers.0.bias": torch.full((8,), float("nan"))})
    with pytest.raises(UsageError, match=r"params/layers.0.bias holds a number that is not finite"):
        bad.save(tmp_path / "agent")
    assert not [*tmp_path.iterdir()]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    agent = grown(make_family("cartpole"))
    agent.save(tmp_path / "agent")

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(agent_file, "write_atomically", full)
    with pytest.raises(UsageError, match="agent: No space left on device; give a file in a"):
        grown(make_family("forager")).save(tmp_path / "agent")
    same(agent, metarl.load_agent(tmp_path / "agent"))


def test_no_folder_to_write_to_is_said(tmp_path):
    with pytest.raises(UsageError, match="No such file or directory; give a file in a writable"):
        grown(make_family("cartpole")).save(tmp_path / "nowhere" / "agent")


def test_nothing_is_drawn_from_torchs_own_stream(tmp_path):
    agent = grown(make_family("cartpole"))
    before = torch.get_rng_state()
    agent.save(tmp_path / "agent")
    metarl.load_agent(tmp_path / "agent")
    assert torch.equal(before, torch.get_rng_state())
