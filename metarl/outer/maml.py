"""Gradient-based outer update with Adam: MAML, ProMP and variants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metarl.agents.learners.gradient_agent import Agent
from metarl.distributed.collectives import all_reduce, all_reduce_named
from metarl.envs import Family
from metarl.outer.inner_loop import chunks, collect_and_adapt, policy_change
from metarl.outer.meta_objective import meta_gradient
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
    """Collect all chunks of tasks, then take one Adam step per epoch.

    Source: Finn et al. 2017 (arXiv:1703.03400), algorithm 3. With several epochs, `clip` and
        `inner_kl`, this is ProMP, Rothfuss et al. 2019 (arXiv:1810.06784), algorithm 1.
    """
    parts = chunks(task, cfg.task_chunk)
    weights = trained_weights(cfg, agent)
    data, losses, norms = [], [], []
    for epoch in range(cfg.epochs):
        now = with_weights(agent, weights)
        total = torch.zeros((), device=agent.device)
        grads = {k: torch.zeros_like(w) for k, w in weights.items()}
        for c, part in enumerate(parts):
            if epoch == 0:
                data.append(collect_and_adapt(cfg, now, family, part, gen, on_phase_end))
            share = len(part[0]) / cfg.tasks
            loss, each = meta_gradient(cfg, agent, weights, data[c], first=epoch == 0)
            grads = {k: g + share * each[k] for k, g in grads.items()}
            data[c] = data[c]._replace(path=[])  # frees the graph of the adaptation
            total = total + share * loss
            on_phase_end("outer")
        moved, opt, norm = clipped_adam(cfg, weights, all_reduce_named(grads), opt)
        weights = {k: w.requires_grad_() for k, w in moved.items()}
        losses.append(total)
        norms.append(norm)
    weights = {k: w.detach() for k, w in weights.items()}
    (loss,) = all_reduce(losses[0])
    metrics = {"train/meta_loss": loss, "train/grad_norm": torch.stack(norms).mean()}
    metrics |= policy_change(with_weights(agent, weights), data)
    return Update(weights, opt, [(d.task, d.rollouts) for d in data], metrics)
