"""The inner loop: collect, adapt, and collect again with the adapted weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from metarl.agents.compilation import is_compiling, may_compile
from metarl.agents.inner.inner_update import adapt, inner_update
from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.networks.policy import Params, act_dist
from metarl.agents.rollouts.batch import Batch, mean_entropy, mean_kl
from metarl.agents.rollouts.rollout import Rollout, collect
from metarl.distributed.collectives import all_reduce
from metarl.envs import Family
from metarl.outer.update import PhaseCallback

if TYPE_CHECKING:
    from metarl.config.settings import TrainConfig


class Experience(NamedTuple):
    """Data of a chunk of tasks in one meta-iteration with K inner steps."""

    task: Any
    rollouts: list[Rollout]  # K + 1; rollout k is collected with the weights after k steps
    support: list[Batch]  # K, one for each inner step
    query: Batch  # collected with the adapted weights
    # K + 1 weights, differentiable with respect to the slow weights; [] after use. In compiled mode
    # they are constants, and the meta-gradient adapts again.
    path: list[Params]


def chunks(task: Any, size: int) -> list[Any]:
    """Split a batch of tasks into chunks of at most `size`."""
    return [type(task)(*c) for c in zip(*(x.split(size) for x in task), strict=True)]


def collect_and_adapt(
    cfg: TrainConfig,
    agent: Agent,
    family: Family,
    task: Any,
    gen: torch.Generator | None,
    on_phase_end: PhaseCallback = lambda phase: None,
) -> Experience:
    """Collect and adapt K times, then collect once more; keeps the graph of the adaptation."""
    rollouts: list[Rollout] = []
    batches: list[Batch] = []
    path = [agent.fast(len(task[0]))]
    for step in range(cfg.inner_steps + 1):
        if step:
            first_order = step - 1 < cfg.inner_steps - cfg.second_order_steps
            path.append(_one_step(agent, path[-1], batches[-1], step - 1, first_order))
            on_phase_end("inner")
        weights = path[-1] if step else agent.params
        rollouts.append(collect(agent.policy, weights, family, task, cfg.episodes, gen))
        on_phase_end("rollout after" if step == cfg.inner_steps else "rollout")
        batches.append(agent.batch(rollouts[-1]))
    return Experience(task, rollouts, batches[:-1], batches[-1], path)


def _one_step(agent: Agent, params: Params, batch: Batch, step: int, first_order: bool) -> Params:
    if not is_compiling():
        return agent.inner_step(params, batch, step, first_order)
    new = step_alone(agent, params, batch, agent.step_size(step))
    return {k: p.requires_grad_(k in agent.inner_lr) for k, p in new.items()}


@may_compile
def step_alone(agent: Agent, params: Params, batch: Batch, inner_lr: Params) -> Params:
    """Weights after one inner step, detached."""
    fast = {k: p.detach().requires_grad_(k in inner_lr) for k, p in params.items()}
    rule = agent.rule
    new = inner_update(
        agent.inner_loss, fast, batch, inner_lr, True, rule.max_norm, rule.iterations
    )
    return {k: p.detach() for k, p in new.items()}


def adapt_again(cfg: TrainConfig, agent: Agent, data: Experience, steps: int = 20) -> list[Params]:
    """Weights after each inner step from the agent's current weights, on the recorded support data.

    Args:
        steps: keep second derivatives in at most this many of the last inner steps.
    """
    return adapt(
        agent.inner_loss,
        agent.fast(len(data.query.obs)),
        data.support,
        [agent.step_size(k) for k in range(cfg.inner_steps)],
        min(cfg.second_order_steps, steps),
        agent.rule.max_norm,
        agent.rule.iterations,
    )


@torch.no_grad()
def policy_change(agent: Agent, data: list[Experience]) -> dict[str, torch.Tensor]:
    """KL from the initial collecting policy to the agent's, and entropy after adaptation; nats."""
    sizes = [len(d.query.obs) for d in data]
    kl, entropy = [], []
    for d in data:
        collected = d.support[0] if d.support else d.query
        kl.append(mean_kl(act_dist(agent.policy, agent.params, collected.obs), collected).sum())
        entropy.append(mean_entropy(d.query.dist, d.query).sum())
    total = torch.stack(kl).sum()
    total, nats, n = all_reduce(
        total, torch.stack(entropy).sum(), torch.full_like(total, sum(sizes))
    )
    return {"train/kl": total / n, "train/entropy": nats / n}
