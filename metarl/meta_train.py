"""The meta-trainer: a generator that yields a state and metrics, and never writes or prints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from agents.adapt import adapt, inner_update, per_task
from agents.agent import Agent, make_policy
from agents.losses import Batch, clipped_surrogate, make_batch, mean_kl, surrogate
from agents.policy import act_dist
from agents.rollout import Rollout, check_finite, collect
from agents.streams import stream
from envs import Family, RunError, probe, sample_tasks
from metarl.config import TrainConfig
from metarl.measure import Experience, measure
from metarl.state import TrainState, named_weights, split_weights

MAX_SKIPPED = 5  # updates in a row with a non-finite gradient before a run is given up


def new_agent(cfg: TrainConfig, family: Family, device: torch.device | str = "cpu") -> Agent:
    """An untrained agent, its weights a function of `cfg.seed` alone.

    Raises:
        UsageError: the family breaks the contract of `envs.Family`, or has spaces that no policy
            here can take.
    """
    probe(family)
    policy = make_policy(family, cfg.policy, cfg.hidden, cfg.log_std_init)
    params = policy.initial(stream(cfg.seed, "weights"))
    inner_lr = {
        k: torch.full(p.shape if cfg.step_size == "per-weight" else (), float(cfg.inner_lr))
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
        learned = cfg.step_size != "fixed" and cfg.inner_steps > 0
        weights = {
            k: w.detach().clone().requires_grad_(learned or k.startswith("params/"))
            for k, w in named_weights(agent).items()
        }
        params, inner_lr = split_weights(weights)
        agent = dataclasses.replace(agent, params=params, inner_lr=inner_lr)
        task = sample_tasks(family, cfg.tasks, stream(cfg.seed, "tasks", it, device), device=device)
        gen = stream(cfg.seed, "episodes", it, device)
        optimizer = _adam(cfg, weights, state.opt)
        data, losses, norms = _improve(cfg, agent, family, task, gen, optimizer, mark)
        metrics = measure(agent, data, losses, norms)
        state = _advance(state, family, data, metrics, weights, optimizer)
        yield state


def _improve(
    cfg: TrainConfig,
    agent: Agent,
    family: Family,
    task: Any,
    gen: torch.Generator | None,
    optimizer: torch.optim.Adam,
    mark: Callable[[str], None],
) -> tuple[list[Experience], list[Tensor], list[Tensor]]:
    """Play, chunk by chunk of tasks, and move the weights in place, once each epoch.

    Returns:
        what each chunk played; loss and gradient norm of each epoch.
    """
    parts = [type(task)(*c) for c in zip(*(x.split(cfg.task_chunk) for x in task), strict=True)]
    leaves = [w for group in optimizer.param_groups for w in group["params"]]
    data: list[Experience] = []
    losses, norms = [], []
    for epoch in range(cfg.epochs):
        optimizer.zero_grad()
        total = torch.zeros((), device=agent.device)
        for c, part in enumerate(parts):
            if epoch == 0:
                data.append(play_and_adapt(cfg, agent, family, part, gen, mark))
            share = len(part[0]) / cfg.tasks
            loss = share * meta_loss(cfg, agent, data[c], first=epoch == 0)
            loss.backward()
            data[c] = data[c]._replace(path=[])  # frees the graph of the adaptation
            total = total + loss.detach()
            mark("outer")
        norms.append(nn.utils.clip_grad_norm_(leaves, cfg.max_grad_norm))
        optimizer.step()
        losses.append(total)
    return data, losses, norms


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
    path = [per_task(agent.params, len(task[0]))]
    for step in range(cfg.inner_steps + 1):
        if step:
            path.append(inner_update(loss, path[-1], batches[-1], agent.inner_lr, cfg.first_order))
            mark("inner")
        weights = path[-1] if step else agent.params
        rollouts.append(collect(agent.policy, weights, family, task, cfg.episodes, gen))
        mark("rollout after" if step == cfg.inner_steps else "rollout")
        batches.append(make_batch(rollouts[-1], cfg.gamma, cfg.gae_lambda))
    return Experience(task, rollouts, batches[:-1], batches[-1], path)


def meta_loss(cfg: TrainConfig, agent: Agent, data: Experience, first: bool = False) -> Tensor:
    """Mean over tasks of the clipped loss after adaptation plus the inner KL penalty.

    With `cfg.multi_step` the loss is the mean over all steps of adaptation, after each of them.

    Args:
        first: the weights are still those that played: the adaptation's own graph is used, and the
            KL, whose value and gradient are 0 there, is left out.
    Source: Rothfuss et al. 2019 (arXiv:1810.06784), section 6; `multi_step` is the multi-step
        loss of MAML++, Antoniou et al. 2019 (arXiv:1810.09502), with equal weights.
    """
    loss = partial(surrogate, agent.policy)
    start = per_task(agent.params, len(data.query.obs))
    path = data.path if first else adapt(loss, start, data.support, agent.inner_lr, cfg.first_order)
    after = [(path[-1], data.query)]
    if cfg.multi_step:  # what was played with the weights after step k serves step k + 1, and this
        after += zip(path[1:-1], data.support[1:], strict=True)
    losses = [
        clipped_surrogate(act_dist(agent.policy, fast, batch.obs), batch, cfg.clip)
        for fast, batch in after
    ]
    total = torch.stack(losses).mean(dim=0)
    if not first and cfg.inner_kl:
        for fast, batch in zip(path[:-1], data.support, strict=True):
            total = total + cfg.inner_kl * mean_kl(act_dist(agent.policy, fast, batch.obs), batch)
    return total.mean()


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


def _advance(
    state: TrainState,
    family: Family,
    data: list[Experience],
    metrics: dict[str, float],
    weights: dict[str, Tensor],
    optimizer: torch.optim.Adam,
) -> TrainState:
    """The next state: with the new weights, or the old ones if the gradient wasn't finite."""
    if not metrics.pop("finite"):
        for chunk in data:
            for rollout in chunk.rollouts:
                check_finite(family, chunk.task, rollout)
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
