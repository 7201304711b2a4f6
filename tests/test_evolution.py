"""Evolution strategies: an unbiased slope, pairs that share their luck, agents as rows."""

import dataclasses
import itertools

import pytest
import torch
from outer_reference import adapt_alone
from small import small
from torch.testing import assert_close
from waiting import counted

from metarl.agents.networks.policy import act_dist
from metarl.agents.rollouts.rollout import collect
from metarl.config.family_spec import build_family
from metarl.config.settings import RunConfig
from metarl.envs import make_family, sample_tasks
from metarl.outer import OUTER
from metarl.outer import es as evolution
from metarl.outer.es import collect_pairs, directions, improve, pair_gradients, perturbed
from metarl.outer.inner_loop import collect_and_adapt
from metarl.outer.train_state import named_weights
from metarl.outer.update import trained_weights
from metarl.training.meta_train import meta_train, new_agent

RULES = ["reptile", "es-maml"]


@pytest.mark.parametrize("sigma", [0.01, 2.0])
def test_the_slope_of_a_quadratic_is_its_gradient_with_the_expected_error(sigma):
    """f(w) = g w - w A w / 2: a pair's difference is 2 sigma g e at any sigma, so the estimate is

    e e^T g: unbiased, with E|estimate - g|^2 = (P + 1) |g|^2 / n for P weights and n pairs.
    """
    gen = torch.Generator().manual_seed(0)
    n, repeats, weights = 50, 400, {"a": torch.zeros(3, 2).double(), "b": torch.zeros(4).double()}
    grad = torch.randn(10, generator=gen).double()
    half = torch.randn(10, 10, generator=gen).double()

    def f(w):
        return w @ grad - 0.5 * ((w @ half) ** 2).sum(-1)

    estimates = []
    for _ in range(repeats):
        noise = {k: directions(w, n, gen) for k, w in weights.items()}
        e = torch.cat([x.flatten(1) for x in noise.values()], dim=1)
        slope = pair_gradients(noise, f(sigma * e) - f(-sigma * e), sigma)
        estimates.append(torch.cat([slope["a"].flatten(), slope["b"]]) / n)
    each = torch.stack(estimates)
    error = (each - grad).square().sum(1).mean() / grad.square().sum()
    assert error.item() == pytest.approx(11 / n, rel=0.1)
    assert (each.mean(0) - grad).norm() / grad.norm() < 4 * (11 / n / repeats) ** 0.5


def setting(name="point-navigation", algo="es-maml", tasks=3, **more):
    cfg = small(name, algo, tasks=tasks, **more)
    family = make_family(name)
    agent = new_agent(cfg, family)
    # The last layer starts near to 0, where what moves the others would hardly show.
    last = f"layers.{len(agent.policy.layers) - 1}.weight"
    agent = dataclasses.replace(agent, params={**agent.params, last: 30 * agent.params[last]})
    return cfg, family, agent, sample_tasks(family, tasks, torch.Generator().manual_seed(1))


def draw(cfg, agent, n, seed=3):
    gen = torch.Generator().manual_seed(seed)
    return {k: directions(w.detach(), n, gen) for k, w in trained_weights(cfg, agent).items()}


@pytest.mark.parametrize("name", ["point-navigation", "cartpole", "forager", "CartPole-v1"])
def test_a_pair_meets_the_same_task_and_luck(name):
    """Without a perturbation, whatever the two play is the same bit for bit."""
    more = {"vary": ("length=0.3:0.9",)} if name == "CartPole-v1" else {}
    if more:
        cfg = small("point-navigation", "es-maml", inner_steps=1)
        family = build_family(dataclasses.replace(cfg, family=name, **more), RunConfig(workers=1))
        agent = new_agent(cfg, family)
        task = sample_tasks(family, 3, torch.Generator().manual_seed(1))
    else:
        cfg, family, agent, task = setting(name, inner_steps=1)
    still = {k: torch.zeros_like(e) for k, e in draw(cfg, agent, 3).items()}
    gen = torch.Generator().manual_seed(2)
    up, down = collect_pairs(cfg, agent, still, family, task, gen)
    for a, b in zip(up.rollouts, down.rollouts, strict=True):
        assert_close(a[:5], b[:5], rtol=0, atol=0)
    assert_close(up.task, task, rtol=0, atol=0)
    assert_close(down.task, task, rtol=0, atol=0)
    later, _ = collect_pairs(cfg, agent, still, family, task, gen)
    assert not torch.equal(up.rollouts[0].logp, later.rollouts[0].logp)  # luck moves on
    moved, other = collect_pairs(cfg, agent, draw(cfg, agent, 3), family, task, gen)
    assert not torch.equal(moved.rollouts[0].logp, other.rollouts[0].logp)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("point-navigation", {}),
        ("cartpole", {}),
        ("point-navigation", {"fast": "head"}),
        ("point-navigation", {"fast": "body"}),
        ("point-navigation", {"fast": "context"}),
        ("cartpole", {"fast": "lora"}),
        ("snake", {"network": "cnn", "fast": "all"}),
        ("snake", {"network": "cnn", "fast": "head"}),
        ("snake", {"network": "cnn", "fast": "context"}),
    ],
)
def test_all_agents_at_once_adapt_and_act_as_each_alone(name, more):
    cfg, family, agent, task = setting(name, inner_steps=2, inner_lr=0.5, sigma=0.2, **more)
    noise, sign = draw(cfg, agent, 3), -1
    moved = perturbed(agent, noise, sign * cfg.sigma)
    first_order = dataclasses.replace(cfg, second_order_steps=0)
    data = collect_and_adapt(first_order, moved, family, task, torch.Generator().manual_seed(2))
    start = named_weights(agent)
    for n in range(3):
        own = {k: w + sign * cfg.sigma * noise[k][n] if k in noise else w for k, w in start.items()}
        alone = {k: own[f"params/{k}"] for k in agent.params}
        for step, rollout in enumerate(data.rollouts):
            fast, _ = adapt_alone(agent, alone, data.support[:step], n)
            # (1, T * B, ...): the distributions that row n's actions were drawn from.
            obs = rollout.obs[n : n + 1].flatten(1, 2)
            dist = act_dist(agent.policy, fast, obs)
            valid = rollout.mask[n].flatten() > 0
            want = rollout.dist[0][n].flatten(0, 1)[valid]
            assert_close(dist[0][0][valid], want, rtol=1e-3, atol=1e-4)


def test_chunks_of_pairs_estimate_what_all_pairs_do_at_once(monkeypatch):
    """Actions without noise in a world without it, so that the only luck is the directions'."""
    cfg, family, agent, task = setting(
        tasks=4, pairs=3, inner_steps=0, log_std_init=-10.0, max_grad_norm=1e9
    )
    noise = {
        k: e if k != "params/log_std" else torch.zeros_like(e)
        for k, e in draw(cfg, agent, 12).items()
    }
    moments = []
    for chunk in (50, 5):
        left = {k: list(e) for k, e in noise.items()}
        rows = iter(  # the directions of each chunk, weight by weight
            torch.stack([left[k].pop(0) for _ in range(n)])
            for n in ([12] if chunk == 50 else [5, 5, 2])
            for k in noise
        )
        monkeypatch.setattr(evolution, "directions", lambda w, n, gen, rows=rows: next(rows))
        one = dataclasses.replace(cfg, task_chunk=chunk)
        gen = torch.Generator().manual_seed(2)
        update = improve(one, agent, {}, family, task, gen, lambda phase: None)
        assert [len(t[0]) for t, _ in update.collected] == [
            n for n in ([12] if chunk == 50 else [5, 5, 2]) for _ in "+-"
        ]
        moments.append({k: update.opt[f"{k}/exp_avg"] for k in update.weights})
    assert_close(*moments, rtol=1e-2, atol=1e-3 * moments[0]["params/layers.0.weight"].abs().max())


def test_the_update_climbs_along_the_mean_of_the_pairs_slopes():
    """Each of the pairs again, alone: its task, its return above and below."""
    cfg, family, agent, task = setting(
        tasks=2, pairs=3, inner_steps=0, log_std_init=-10.0, max_grad_norm=1e9, episodes=2
    )
    gen = torch.Generator().manual_seed(2)
    copy = evolution.copy_of(gen)
    update = improve(cfg, agent, {}, family, task, gen, lambda phase: None)
    weights = trained_weights(cfg, agent)
    noise = {k: directions(w.detach(), 6, copy) for k, w in weights.items()}
    total, squares = {k: torch.zeros_like(w) for k, w in agent.params.items()}, 0.0
    for i in range(6):
        own_task = type(task)(*(x[i // 3 : i // 3 + 1] for x in task))
        ends = []
        for sign in (1, -1):
            own = {
                k: p + sign * cfg.sigma * noise[f"params/{k}"][i] for k, p in agent.params.items()
            }
            played = collect(
                agent.policy, own, family, own_task, 2, torch.Generator().manual_seed(4)
            )
            ends.append(played.episode_return().mean())
        squares += (ends[0] - ends[1]) ** 2 / 6
        for k in total:
            total[k] += (ends[0] - ends[1]) * noise[f"params/{k}"][i] / (2 * cfg.sigma)
    got = {k: -10 * update.opt[f"params/{k}/exp_avg"] for k in total}
    want = {k: t / 6 / squares**0.5 for k, t in total.items()}
    for k in want:
        assert_close(got[k], want[k], rtol=1e-2, atol=1e-2 * want[k].abs().max().item(), msg=k)
        climbed = (update.weights[f"params/{k}"] - agent.params[k]) * want[k]
        assert climbed[want[k].abs() > 0.1 * want[k].abs().max()].min() > 0


def test_the_score_is_the_return_after_the_last_step(monkeypatch):
    """A world that pays, after adaptation, what is linear in the weights that it started from."""
    cfg, family, agent, task = setting(pairs=2, inner_steps=1, max_grad_norm=1e9)
    name = "layers.0.weight"
    slope = torch.randn(agent.params[name].shape, generator=torch.Generator().manual_seed(5))

    def linear(cfg, moved, *args):
        data = collect_and_adapt(cfg, moved, *args)
        rew = torch.zeros_like(data.rollouts[-1].rew)
        rew[:, 0] = (moved.params[name] * slope).sum((1, 2)).unsqueeze(-1)
        return data._replace(rollouts=[data.rollouts[0], data.rollouts[1]._replace(rew=rew)])

    monkeypatch.setattr(evolution, "collect_and_adapt", linear)
    gen = torch.Generator().manual_seed(2)
    copy = evolution.copy_of(gen)
    update = improve(cfg, agent, {}, family, task, gen, lambda phase: None)
    noise = {k: directions(w.detach(), 6, copy) for k, w in trained_weights(cfg, agent).items()}
    along = (noise[f"params/{name}"] * slope).sum((1, 2))
    for k, e in noise.items():
        total = sum(a * x for a, x in zip(along, e, strict=True))
        want = total / 6 / (2 * cfg.sigma * along).square().mean().sqrt()
        assert_close(-10 * update.opt[f"{k}/exp_avg"], want, rtol=1e-3, atol=1e-3)


def test_a_context_is_neither_perturbed_nor_trained():
    cfg, family, agent, task = setting(fast="context", tasks=2)
    assert "params/context" not in draw(cfg, agent, 2)
    gen = torch.Generator().manual_seed(2)
    update = improve(cfg, agent, {}, family, task, gen, lambda phase: None)
    assert set(update.weights) == {f"params/{k}" for k in agent.params} - {"params/context"}


@pytest.mark.parametrize("algo", RULES)
def test_no_second_derivative_is_prepared_and_no_graph_outlives_an_iteration(algo, monkeypatch):
    cfg, family, agent, task = setting(algo=algo, inner_steps=2)
    plain, prepared = torch.autograd.grad, []

    def grad(*args, create_graph=False, **more):
        prepared.append(create_graph)
        return plain(*args, create_graph=create_graph, **more)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    gen = torch.Generator().manual_seed(2)
    update = OUTER[cfg.outer](cfg, agent, {}, family, task, gen, lambda phase: None)
    assert prepared == [False] * (3 if algo == "reptile" else 4)
    for x in (*update.weights.values(), *update.opt.values(), *update.metrics.values()):
        assert x.grad_fn is None
        assert not x.requires_grad


@pytest.mark.parametrize("algo", RULES)
def test_a_meta_iteration_waits_for_the_device_only_to_read_the_metrics(algo, monkeypatch):
    cfg, family = small("forager", algo, inner_steps=2), make_family("forager")
    trainer = meta_train(cfg, family)
    next(trainer)
    with counted(monkeypatch) as (reads, waits):
        next(trainer)
    assert waits == []
    assert reads == ["tolist"]


@pytest.mark.parametrize("algo", RULES)
@pytest.mark.parametrize("more", [{}, {"task_chunk": 2, "inner_steps": 2, "baseline": "learned"}])
def test_resuming_equals_never_stopping(algo, more):
    cfg, family = small("point-navigation", algo, **more), make_family("point-navigation")
    whole = list(meta_train(cfg, family))
    rest = list(meta_train(cfg, family, next(itertools.islice(meta_train(cfg, family), 1))))
    assert_close(named_weights(rest[-1].agent), named_weights(whole[-1].agent), rtol=0, atol=0)
    assert_close(rest[-1].opt, whole[-1].opt, rtol=0, atol=0)
    assert rest[-1].metrics == whole[-1].metrics
