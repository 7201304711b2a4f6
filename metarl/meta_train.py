"""The meta-trainer: a generator that yields a state and metrics, and never writes or prints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from agents.adapt import adapt, inner_update, per_task
from agents.agent import Agent
from agents.losses import Batch, clipped_surrogate, make_batch, mean_kl, surrogate
from agents.policy import MLP, Params, act_dist
from agents.rollout import Rollout, check_finite, collect
from agents.streams import stream
from envs import Family, RunError, probe, sample_tasks
from metarl.config import TrainConfig

MAX_SKIPPED = 5  # updates in a row with a non-finite gradient before a run is given up


@dataclass(frozen=True)
class TrainState:
    """Everything needed to go on; randomness is a function of (seed, iteration) and not kept."""

    agent: Agent
    opt: dict[str, Tensor] = field(default_factory=dict)  # Adam's, by `weight/quantity`
    iteration: int = 0
    env_steps: int = 0
    skipped: int = 0  # updates left out for a non-finite gradient
    skipped_in_a_row: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


class Experience(NamedTuple):
    """What one meta-iteration plays, K inner steps."""

    rollouts: list[Rollout]  # K + 1, each collected with the weights before it
    support: list[Batch]  # K, before each inner step
    query: Batch  # after the last
    path: list[Params]  # K + 1 fast weights, differentiable in the slow ones


def new_agent(cfg: TrainConfig, family: Family, device: torch.device | str = "cpu") -> Agent:
    """An untrained agent, its weights a function of `cfg.seed` alone.

    Raises:
        UsageError: the family breaks the contract of `envs.Family`, or has spaces that no policy
            here can take.
    """
    probe(family)
    policy = MLP(family.observation_space, family.action_space, cfg.hidden, cfg.log_std_init)
    params = policy.initial(stream(cfg.seed, "weights"))
    inner_lr = {
        k: torch.full(p.shape if cfg.step_size == "per-weight" else (), cfg.inner_lr)
        for k, p in params.items()
    }
    return Agent(policy, params, inner_lr, cfg.gamma, cfg.gae_lambda).to(device)


def meta_train(
    cfg: TrainConfig,
    family: Family,
    state: TrainState | None = None,
    mark: Callable[[str], None] = lambda phase: None,
) -> Iterator[TrainState]:
    """Yield the state after each meta-iteration, until `cfg.iterations`.

    One iteration: draw tasks; play and adapt `cfg.inner_steps` times; play with the adapted
    weights; move slow weights and step sizes so that the same adaptation ends better.

    Args:
        state: where to go on; None starts a new agent on the CPU.
        mark: called with the name of each phase as it ends, for benchmarks.
    Raises:
        RunError: the family gave a NaN or infinity, or the meta-gradient wasn't finite several
            times in a row; the last state yielded is good.
    Source: Finn et al. 2017 (arXiv:1703.03400), algorithm 3; with several epochs, `clip` and
        `inner_kl` it is ProMP, Rothfuss et al. 2019 (arXiv:1810.06784), algorithm 1.
    """
    state = state or TrainState(new_agent(cfg, family))
    while state.iteration < cfg.iterations:
        agent, it = state.agent, state.iteration
        device = agent.device
        learned = cfg.step_size != "fixed"
        weights = {
            k: w.detach().clone().requires_grad_(learned or k.startswith("params/"))
            for k, w in named_weights(agent).items()
        }
        params, inner_lr = split_weights(weights)
        agent = dataclasses.replace(agent, params=params, inner_lr=inner_lr)
        task = sample_tasks(family, cfg.tasks, stream(cfg.seed, "tasks", it, device), device=device)

        data = play_and_adapt(
            cfg, agent, family, task, stream(cfg.seed, "episodes", it, device), mark
        )
        optimizer, losses, norms = _adam(cfg, weights, state.opt), [], []
        for epoch in range(cfg.epochs):
            loss = meta_loss(cfg, agent, data, first=epoch == 0)
            optimizer.zero_grad()
            loss.backward()
            leaves = [w for w in weights.values() if w.requires_grad]
            norms.append(nn.utils.clip_grad_norm_(leaves, cfg.max_grad_norm))
            optimizer.step()
            losses.append(loss.detach())
        mark("outer")

        metrics = _measure(agent, data, losses, norms)
        state = _advance(state, family, task, data, metrics, weights, optimizer)
        yield state


def play_and_adapt(
    cfg: TrainConfig,
    agent: Agent,
    family: Family,
    task: Any,
    gen: torch.Generator | None,
    mark: Callable[[str], None] = lambda phase: None,
) -> Experience:
    """Play and adapt K times, then play once more, keeping the graph of the adaptation."""
    loss = partial(surrogate, agent.policy)
    rollouts: list[Rollout] = []
    batches: list[Batch] = []
    path = [per_task(agent.params, cfg.tasks)]
    for step in range(cfg.inner_steps + 1):
        if step:
            path.append(inner_update(loss, path[-1], batches[-1], agent.inner_lr, cfg.first_order))
            mark("inner")
        weights = path[-1] if step else agent.params
        rollouts.append(collect(agent.policy, weights, family, task, cfg.episodes, gen))
        mark("rollout after" if step == cfg.inner_steps else "rollout")
        batches.append(make_batch(rollouts[-1], cfg.gamma, cfg.gae_lambda))
    return Experience(rollouts, batches[:-1], batches[-1], path)


def meta_loss(cfg: TrainConfig, agent: Agent, data: Experience, first: bool = False) -> Tensor:
    """Mean over tasks of the clipped loss after adaptation plus the inner KL penalty.

    Args:
        first: the weights are still those that played: the adaptation's own graph is used, and the
            KL, whose value and gradient are 0 there, is left out.
    """
    loss = partial(surrogate, agent.policy)
    start = per_task(agent.params, len(data.query.obs))
    path = data.path if first else adapt(loss, start, data.support, agent.inner_lr, cfg.first_order)
    total = clipped_surrogate(
        act_dist(agent.policy, path[-1], data.query.obs), data.query, cfg.clip
    )
    if not first and cfg.inner_kl:
        for fast, batch in zip(path[:-1], data.support, strict=True):
            total = total + cfg.inner_kl * mean_kl(act_dist(agent.policy, fast, batch.obs), batch)
    return total.mean()


def named_weights(agent: Agent) -> dict[str, Tensor]:
    """Everything that meta-training may change, by `params/...` and `inner_lr/...`."""
    return {
        **{f"params/{k}": p for k, p in agent.params.items()},
        **{f"inner_lr/{k}": p for k, p in agent.inner_lr.items()},
    }


def split_weights(weights: dict[str, Tensor]) -> tuple[Params, Params]:
    """The inverse of `named_weights`: params, inner_lr."""
    parts: dict[str, Params] = {"params": {}, "inner_lr": {}}
    for name, weight in weights.items():
        part, _, key = name.partition("/")
        parts[part][key] = weight
    return parts["params"], parts["inner_lr"]


def _adam(
    cfg: TrainConfig, weights: dict[str, Tensor], saved: dict[str, Tensor]
) -> torch.optim.Adam:
    """Adam over all weights that train, going on from its saved state."""
    trained = {k: w for k, w in weights.items() if w.requires_grad}
    groups = [
        {"params": [w], "lr": cfg.meta_lr if k.startswith("params/") else cfg.meta_lr_of_steps}
        for k, w in trained.items()
    ]
    # fused: the plain one reads its step counter on the host, once for each weight.
    optimizer = torch.optim.Adam(groups, fused=True)
    if saved:
        moments = {
            i: {q: saved[f"{k}/{q}"].clone() for q in ("step", "exp_avg", "exp_avg_sq")}
            for i, k in enumerate(trained)
        }
        optimizer.load_state_dict(
            {"state": moments, "param_groups": optimizer.state_dict()["param_groups"]}
        )
    return optimizer


def _measure(
    agent: Agent, data: Experience, losses: list[Tensor], norms: list[Tensor]
) -> dict[str, float]:
    """All metrics in one transfer: the only wait for the device in a meta-iteration."""
    played, query = data.support[0] if data.support else data.query, data.query
    with torch.no_grad():
        kl = mean_kl(act_dist(agent.policy, agent.params, played.obs), played).mean()
    before, after = (r.episode_return().mean() for r in (data.rollouts[0], data.rollouts[-1]))
    values = {
        "train/return_before": before,
        "train/return_after": after,
        "train/adaptation_gain": after - before,
        "train/meta_loss": losses[0],
        "train/kl": kl,
        "train/entropy": (query.dist.entropy() * query.weight).sum(-1).mean(),
        "train/grad_norm": torch.stack(norms).mean(),
        "env_steps": torch.stack([r.alive.sum() for r in data.rollouts]).sum(),
        "finite": torch.stack(
            [x.isfinite().all() for r in data.rollouts for x in (r.obs, r.rew)]
        ).all(),
    }
    numbers = torch.stack([v.double() for v in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))


def _advance(
    state: TrainState,
    family: Family,
    task: Any,
    data: Experience,
    metrics: dict[str, float],
    weights: dict[str, Tensor],
    optimizer: torch.optim.Adam,
) -> TrainState:
    """The next state: with the new weights, or the old ones if the gradient wasn't finite."""
    if not metrics.pop("finite"):
        for rollout in data.rollouts:
            check_finite(family, task, rollout)
    env_steps = state.env_steps + int(metrics.pop("env_steps"))
    if bad := not math.isfinite(metrics["train/grad_norm"]):
        agent, opt = state.agent, state.opt
    else:
        params, inner_lr = split_weights({k: w.detach() for k, w in weights.items()})
        agent = dataclasses.replace(state.agent, params=params, inner_lr=inner_lr)
        trained = [k for k, w in weights.items() if w.requires_grad]
        moments = optimizer.state_dict()["state"]
        opt = {f"{k}/{q}": v for i, k in enumerate(trained) for q, v in moments[i].items()}
    in_a_row = state.skipped_in_a_row + 1 if bad else 0
    if in_a_row >= MAX_SKIPPED:
        raise RunError(
            f"meta-gradient not finite {in_a_row} times in a row "
            f"at iteration {state.iteration + 1}: "
            "start a new run with a lower --inner-lr or --meta-lr."
        )
    skipped = state.skipped + bad
    metrics["train/skipped_updates"] = float(skipped)
    return TrainState(agent, opt, state.iteration + 1, env_steps, skipped, in_a_row, metrics)
