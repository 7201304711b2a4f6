"""Gradient-based outer update with Adam: MAML, ProMP and variants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metarl.agents.learners.gradient_agent import Agent
from metarl.distributed.collectives import all_reduce, all_reduce_named
from metarl.envs import Family
from metarl.outer.functional_adam import adam, clip
from metarl.outer.inner_loop import chunks, collect_and_adapt, policy_change
from metarl.outer.meta_objective import meta_gradient
from metarl.outer.train_state import named_weights, with_weights
from metarl.outer.update import PhaseCallback, Update

if TYPE_CHECKING:
    from metarl.config.settings import TrainConfig


def trained_weights(cfg: TrainConfig, agent: Agent) -> dict[str, Tensor]:
    """Leaf tensors for the weights that the outer update trains.

    Context parameters are excluded: they always start at 0.
    """
    learned = cfg.step_size != "fixed" and cfg.inner_steps > 0
    return {
        k: w.detach().requires_grad_()
        for k, w in named_weights(agent).items()
        if (k.startswith("params/") and k != "params/context")
        or (learned and k.startswith("inner_lr/"))
    }


def meta_lr(cfg: TrainConfig, name: str) -> float:
    """Adam's learning rate for a weight."""
    return cfg.meta_lr_of_steps if name.startswith("inner_lr/") else cfg.meta_lr


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
        grads, norm = clip(all_reduce_named(grads), cfg.max_grad_norm)
        moved, opt = adam(weights, grads, opt, lambda k: meta_lr(cfg, k))
        weights = {k: w.requires_grad_() for k, w in moved.items()}
        losses.append(total)
        norms.append(norm)
    weights = {k: w.detach() for k, w in weights.items()}
    (loss,) = all_reduce(losses[0])
    metrics = {"train/meta_loss": loss, "train/grad_norm": torch.stack(norms).mean()}
    metrics |= policy_change(with_weights(agent, weights), data)
    return Update(weights, opt, [(d.task, d.rollouts) for d in data], metrics)
