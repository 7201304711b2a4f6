"""How an agent adapts, layer by layer; and a run in words."""

import dataclasses

import numpy as np
import pytest
import torch
from small import small, start

from metarl.cli.main import parse
from metarl.config.presets import preset
from metarl.config.settings import RunConfig, TrainConfig
from metarl.envs import make_family, sample_tasks
from metarl.tracking.adaptation_stats import (
    how_it_adapts,
    mean_step_size,
    step_sizes,
    weight_change,
)
from metarl.tracking.run_summary import about, command
from metarl.training.meta_train import new_agent


def adapted(agent, n, seed):
    family, gen = make_family("point-navigation"), torch.Generator().manual_seed(seed)
    return agent.adapt(family, sample_tasks(family, n, gen), 2, 3, gen)


@pytest.mark.parametrize("fast", ["all", "head", "context", "lora"])
def test_change_is_the_root_mean_square_over_all_tasks_of_all_chunks(fast):
    agent = new_agent(small("point-navigation", fast=fast), make_family("point-navigation"))
    parts = [adapted(agent, 3, 0), adapted(agent, 2, 1)]
    got = weight_change(agent, parts)
    layers = {}
    for name in agent.inner_lr:
        where = name.rsplit(".", 1)[0] if "." in name else name
        for index in np.ndindex(*agent.params[name].shape):
            changes = [
                float(part.params[name][task][index] - agent.params[name][index])
                for part, n in zip(parts, (3, 2), strict=True)
                for task in range(n)
            ]
            layers.setdefault(where, []).append(np.sqrt(np.mean(np.square(changes))))
    assert got.keys() == layers.keys()
    for where, changes in layers.items():
        np.testing.assert_allclose(got[where], changes, rtol=1e-4, atol=1e-7)
    assert max(x.max() for x in got.values()) > 0
    metrics, _ = how_it_adapts(small("point-navigation"), agent, parts)
    norms = [
        sum(float((p.params[k][t] - agent.params[k]).square().sum()) for k in agent.inner_lr)
        for p, n in zip(parts, (3, 2), strict=True)
        for t in range(n)
    ]
    assert metrics["inner/weight_change"] == pytest.approx(np.sqrt(np.mean(norms)), rel=1e-4)


def test_no_step_is_no_change():
    cfg, _, state = start()
    metrics, distributions = how_it_adapts(cfg, state.agent, [state.agent])
    assert metrics["inner/weight_change"] == 0
    sizes = {k: v.size for k, v in distributions.items() if k.startswith("weight_change/")}
    assert sum(sizes.values()) == sum(state.agent.params[k].numel() for k in state.agent.inner_lr)


@pytest.mark.parametrize("kind", ["fixed", "per-tensor", "per-weight", "per-step"])
def test_step_size_is_a_mean_over_weights_whatever_has_one_of_its_own(kind):
    cfg = small("point-navigation", step_size=kind, inner_steps=2)
    agent = new_agent(cfg, make_family("point-navigation"))
    gen = torch.Generator().manual_seed(0)
    sizes = {k: torch.randn(lr.shape, generator=gen) for k, lr in agent.inner_lr.items()}
    agent = dataclasses.replace(agent, inner_lr=sizes)
    each = []
    for name in agent.inner_lr:
        for step in range(2):
            lr = agent.step_size(step)[name]
            each += lr.abs().expand(agent.params[name].shape).flatten().tolist()
    assert mean_step_size(agent) == pytest.approx(np.mean(each), rel=1e-5)
    shown = np.concatenate(list(step_sizes(agent).values()))
    assert sorted(shown) == sorted(torch.cat([s.flatten() for s in sizes.values()]).tolist())
    _, distributions = how_it_adapts(cfg, agent, [agent])
    assert any(k.startswith("step_size/") for k in distributions) == (kind != "fixed")


@pytest.mark.parametrize(
    "words",
    [
        "forager",
        "point-navigation --algo cavia --outer gradient --step-size per-tensor --seed 3",
        "point-navigation --no-lr-decay --no-multi-step --hidden 8 9 --track csv",
        "CartPole-v1 --vary masspole=0.05:0.5:log --vary length=0.3:0.9 --hold-out length=0.5:0.6",
        "bandit --algo rl2 --iterations 7 --threads 1 --save-every 3",
    ],
)
def test_the_command_of_a_run_starts_the_same_run(words):
    def settings(words):
        got = parse(["train", *words])
        return [
            {f.name: getattr(got, f.name) for f in dataclasses.fields(kind)}
            for kind in (TrainConfig, RunConfig)
        ]

    train, run = settings(words.split())
    again = command(TrainConfig(**train), RunConfig(**run)).split()
    assert again[:2] == ["metarl", "train"]
    assert settings(again[2:]) == [train, run]
    assert sorted(again[2:]) == sorted(words.split())  # and says nothing that goes without saying


def test_the_text_has_command_settings_and_versions():
    train = preset("forager", seed=7)
    text = about(train, RunConfig(), "disjoint members")
    assert "validation tasks (disjoint members), never test tasks" in text
    assert text.startswith("`metarl train forager --seed 7`")
    torch_version = torch.__version__.split("+")[0]
    for line in ("inner_lr | 2.0", "save_every | 10", f"torch | {torch_version}"):
        assert f"| {line}" in text
