"""Any `nn.Module` as a network: per task, to second order, recorded, resumed, evaluated."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import custom_networks
import pytest
import torch
from small import metarl, small
from test_meta_train import objective_of_fixed_data
from torch.func import functional_call
from torch.testing import assert_close

from metarl.agents.networks.choose import make_policy
from metarl.agents.networks.policy import act_dist
from metarl.config.presets import preset
from metarl.envs import UsageError, make_family
from metarl.experiment.run import open_run
from metarl.outer.meta_objective import meta_loss
from metarl.outer.train_state import named_weights, with_weights
from metarl.training.meta_train import meta_train, new_agent

HERE = Path(__file__).parent
FAMILY_OF = {"Normed": "point-navigation", "Attention": "cartpole", "Convolutions": "breakout"}
NETWORKS = pytest.mark.parametrize(("name", "family"), FAMILY_OF.items())


def setting(name):
    return f"custom_networks:{name}"


def numbers(dist):
    return dist.mean if hasattr(dist, "mean") else dist.logits


@NETWORKS
def test_each_task_has_its_own_weights(name, family):
    family = make_family(family)
    policy = make_policy(family, setting(name), (4,), 0.0).double()
    params = policy.initial(torch.Generator().manual_seed(0))
    gen = torch.Generator().manual_seed(1)
    many = {
        k: p.double() + torch.randn(3, *p.shape, generator=gen, dtype=torch.float64)
        for k, p in params.items()
    }
    obs = torch.rand(3, 5, *family.observation_space.shape, generator=gen, dtype=torch.float64)
    together = numbers(act_dist(policy, many, obs))
    for i in range(3):
        own = {k.removeprefix("body."): p[i] for k, p in many.items() if k.startswith("body.")}
        alone = policy.head(functional_call(policy.body, own, (obs[i],)).unsqueeze(0))
        assert_close(together[i], numbers(alone)[0])
    first = "body." + next(iter(dict(policy.body.named_parameters())))
    part = {**{k: p.double() for k, p in params.items()}, first: many[first]}
    assert numbers(act_dist(policy, part, obs)).shape == together.shape


@NETWORKS
def test_second_order_gradients_match_finite_differences(name, family):
    cfg = small(family, network=setting(name), inner_lr=0.3, inner_kl=0.5, tasks=2)
    agent, data = objective_of_fixed_data(cfg, make_family(family))
    weights = {k: w.detach().requires_grad_() for k, w in named_weights(agent).items()}

    def f(w):
        return meta_loss(cfg, with_weights(agent, w), data)

    got = torch.autograd.grad(f(weights), list(weights.values()), allow_unused=True)
    gen = torch.Generator().manual_seed(3)
    for _ in range(3):  # along random directions
        way = {k: torch.randn(w.shape, generator=gen, dtype=w.dtype) for k, w in weights.items()}
        ends = [
            f({k: (w + eps * way[k]).detach().requires_grad_() for k, w in weights.items()}).item()
            for eps in (1e-6, -1e-6)
        ]
        have = sum((g * way[k]).sum() for k, g in zip(weights, got, strict=True) if g is not None)
        assert_close(have.item(), (ends[0] - ends[1]) / 2e-6, rtol=1e-4, atol=1e-7)


def test_a_module_with_the_layers_of_the_mlp_gives_what_the_mlp_gives():
    family = make_family("cartpole")
    own = make_policy(family, setting("perceptron"), (4,), 0.0)
    mlp = make_policy(family, "mlp", (64, 64), 0.0)
    params = mlp.initial(torch.Generator().manual_seed(0))
    names = dict(zip(dict(own.named_parameters()), params, strict=True))
    obs = torch.rand(2, 7, *family.observation_space.shape)
    got = act_dist(own, {k: params[other] for k, other in names.items()}, obs)
    assert_close(got.logits, act_dist(mlp, params, obs).logits)


def test_first_weights_are_a_function_of_the_seed_and_torchs_stream_stays():
    cfg, family = preset("cartpole", network=custom_networks.Normed), make_family("cartpole")
    assert cfg.network == setting("Normed")
    torch.manual_seed(5)
    want = torch.rand(1)
    torch.manual_seed(5)
    one, again = new_agent(cfg, family).params, new_agent(cfg, family).params
    assert torch.rand(1) == want
    assert all(torch.equal(one[k], again[k]) for k in one)
    other = new_agent(dataclasses.replace(cfg, seed=1), family).params
    assert not torch.equal(one["body.net.1.weight"], other["body.net.1.weight"])


@pytest.mark.parametrize(
    "algo", ["promp", "maml-trpo", "fomaml", "imaml", "reptile", "anil", "boil"]
)
def test_it_trains_by_every_outer_rule_and_the_head_is_the_last_layer(algo):
    cfg = small("point-navigation", algo, network=setting("Normed"), iterations=1)
    (state,) = meta_train(cfg, make_family("point-navigation"))
    assert not state.skipped
    if algo == "anil":
        assert set(state.agent.inner_lr) == {"body.net.4.weight", "body.net.4.bias", "log_std"}
    if algo == "boil":
        assert {k.split(".")[2] for k in state.agent.inner_lr} == {"1", "2"}


@pytest.mark.parametrize("fast", ["context", "lora"])
def test_what_needs_metarls_own_layers_is_refused(fast):
    cfg = small("point-navigation", network=setting("Normed"), fast=fast)
    with pytest.raises(UsageError, match="neither a context nor adapters; give --fast all"):
        new_agent(cfg, make_family("point-navigation"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("too_wide", r"gives \(3, 3\) for 3 observations: .* numbers \(M, 2\)"),
        ("batch_normed", "1 is BatchNorm1d, which mixes"),
        ("with_dropout", "2 is Dropout, which mixes observations or draws noise"),
        ("without_weights", "gives Flatten: give a torch.nn.Module with weights"),
        ("not_a_module", "gives Box: give a torch.nn.Module"),
        ("failing", r"can't be made \(RuntimeError: no such luck\)"),
        ("depends_on_data", r"fails \(RuntimeError: vmap"),
        ("NUMBER", "can't be called: give a class or function"),
        ("Missing", "has no attribute 'Missing': give module:NAME"),
    ],
)
def test_a_network_that_can_not_be_used_is_refused_in_one_line(name, told):
    with pytest.raises(UsageError, match=told) as refused:
        new_agent(small("point-navigation", network=setting(name)), make_family("point-navigation"))
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"--network {setting(name)}")


def test_an_unknown_name_is_refused():
    with pytest.raises(
        UsageError, match="--network lstm: unknown; give auto, mlp, cnn, or your own"
    ):
        new_agent(small("point-navigation", network="lstm"), make_family("point-navigation"))


def test_from_the_command_line_it_is_recorded_resumed_and_evaluated_under_trust(tmp_path):
    run, flag = tmp_path / "run", f"--no-lr-decay --network {setting('Normed')}"
    words = "train point-navigation --iterations 2 --tasks 2 --episodes 2 --eval-steps 1 --quiet"
    assert metarl(f"{words} {flag} --run {run}")[0] == 0
    assert json.loads((run / "config.json").read_text())["train"]["network"] == setting("Normed")
    code, _, err = metarl("evaluate --tasks 2 --episodes 2 --steps 1", run)
    assert (code, err.count("\n")) == (2, 1)
    assert "would import custom_networks:Normed: give --trust" in err
    code, shown, _ = metarl("evaluate --tasks 2 --episodes 2 --steps 1 --trust", run)
    assert (code, "point-navigation: 2 tasks" in shown) == (0, True)
    whole = tmp_path / "whole"
    assert metarl(f"{words.replace('2', '3', 1)} {flag} --run {whole}")[0] == 0
    assert metarl(f"train --resume {run} --iterations 3 --quiet --trust")[0] == 0
    one, other = (open_run(folder, trust=True).state.agent.params for folder in (run, whole))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one)
    shutil.rmtree(whole)


def test_the_former_name_of_the_flag_still_works(tmp_path):
    words = "train point-navigation --iterations 1 --tasks 2 --episodes 2 --eval-steps 1 --quiet"
    assert metarl(f"{words} --policy mlp --run {tmp_path / 'run'}")[0] == 0
    assert "custom_networks" in sys.modules  # imported by this file alone, not by the command
