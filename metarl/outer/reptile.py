"""Reptile: move the slow weights toward the adapted weights, without differentiating adaptation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metarl.agents.learners.gradient_agent import Agent
from metarl.distributed.collectives import all_reduce_mean, all_reduce_named
from metarl.envs import Family
from metarl.outer.inner_loop import Experience, chunks, collect_and_adapt, policy_change
from metarl.outer.train_state import with_weights
from metarl.outer.update import PhaseCallback, Update, clipped_adam, trained_weights

if TYPE_CHECKING:
    from metarl.config.settings import TrainConfig


def improve(
    cfg: TrainConfig,
    agent: Agent,
    opt: dict[str, Tensor],
    family: Family,
    task: Any,
    gen: torch.Generator | None,
    on_phase_end: PhaseCallback,
) -> Update:
    """Take an Adam step along the mean over tasks of the change of the weights by adaptation.

    The episodes collected after the last of the K = `cfg.inner_steps` steps are used for one more
    inner step, K + 1 in all: with a single step, Reptile would be joint training on all tasks.

    Source: Nichol et al. 2018 (arXiv:1803.02999), algorithm 1 in batches, Adam as in section 3.
    """
    first_order = dataclasses.replace(cfg, second_order_steps=0)
    weights = {k: w.detach() for k, w in trained_weights(cfg, agent).items()}
    grads = {k: torch.zeros_like(w) for k, w in weights.items()}
    data = []
    for part in chunks(task, cfg.task_chunk):
        collected = collect_and_adapt(first_order, agent, family, part, gen, on_phase_end)
        grads = {k: grads[k] + g / cfg.tasks for k, g in reptile_gradient(agent, collected).items()}
        data.append(collected._replace(path=[]))
        on_phase_end("outer")
    weights, opt, norm = clipped_adam(cfg, weights, all_reduce_named(grads), opt)
    ret = all_reduce_mean(torch.cat([d.rollouts[-1].episode_return() for d in data]))
    metrics = {"train/meta_loss": -ret, "train/grad_norm": norm}
    metrics |= policy_change(with_weights(agent, weights), data)
    return Update(weights, opt, [(d.task, d.rollouts) for d in data], metrics)


def reptile_gradient(agent: Agent, data: Experience) -> dict[str, Tensor]:
    """Slow weights minus those after K + 1 steps, divided by the step size; summed over tasks.

    This is the sum of the steps' gradients, so gradient clipping applies as to a loss.

    Source: Nichol et al. 2018 (arXiv:1803.02999), section 5.1.
    """
    last = agent.inner_step(data.path[-1], data.query, len(data.support), first_order=True)
    return {
        f"params/{k}": ((agent.params[k] - last[k].detach()) / lr).sum(0)
        for k, lr in agent.inner_lr.items()
    }
