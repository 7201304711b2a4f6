"""The meta-objective: the loss after adaptation."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metarl.agents.compilation import is_compiling, may_compile
from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.networks.policy import Params, act_dist
from metarl.agents.rollouts.advantages import in_units, same_rewards
from metarl.agents.rollouts.batch import Batch, clipped_surrogate, mean_kl
from metarl.agents.rollouts.rollout import Rollout
from metarl.distributed.collectives import all_reduce, all_reduce_mean
from metarl.outer.inner_loop import Experience, adapt_again
from metarl.outer.train_state import with_weights

if TYPE_CHECKING:
    from metarl.config.settings import TrainConfig


def meta_loss(cfg: TrainConfig, agent: Agent, data: Experience, first: bool = False) -> Tensor:
    """Mean over tasks of the clipped loss after adaptation, with the optional terms; ().

    With `cfg.multi_step`, the loss is the mean of the losses after each inner step.

    Args:
        first: the weights are still those that collected the data. The graph of the adaptation is
            reused, and the KL term is omitted, because its value and gradient are 0.
    Source: Rothfuss et al. 2019 (arXiv:1810.06784), section 6. `multi_step` is the multi-step
        loss of MAML++, Antoniou et al. 2019 (arXiv:1810.09502), with equal weights.
    """
    if first:
        return loss_of(cfg, agent, data, data.path, first)
    return loss_of(cfg, agent, data, adapt_again(cfg, agent, data))


def meta_gradient(
    cfg: TrainConfig, agent: Agent, weights: Params, data: Experience, first: bool = False
) -> tuple[Tensor, Params]:
    """`meta_loss` of the agent with these weights, (), and its gradient."""
    return _meta_gradient(cfg, agent, weights, data, first and not is_compiling())


@partial(may_compile, replay=True)
def _meta_gradient(
    cfg: TrainConfig, agent: Agent, weights: Params, data: Experience, first: bool
) -> tuple[Tensor, Params]:
    loss = meta_loss(cfg, with_weights(agent, weights), data, first)
    grads = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
    return loss.detach(), dict(zip(weights, grads, strict=True))


def loss_of(
    cfg: TrainConfig, agent: Agent, data: Experience, path: list[Params], first: bool = False
) -> Tensor:
    """`meta_loss` for a given adaptation path; ()."""
    losses = [
        clipped_surrogate(act_dist(agent.policy, fast, batch.obs), batch, cfg.clip)
        for fast, batch in weighed(cfg, data, path)
    ]
    total = torch.stack(losses).mean(dim=0)
    if cfg.exploration and data.support:
        total = total + cfg.exploration * exploration_loss(cfg, agent, data, path)
    if not first and cfg.inner_kl:
        for fast, batch in zip(path[:-1], data.support, strict=True):
            total = total + cfg.inner_kl * mean_kl(act_dist(agent.policy, fast, batch.obs), batch)
    return total.mean()


def weighed(cfg: TrainConfig, data: Experience, path: list[Params]) -> list[tuple[Params, Batch]]:
    """The adapted weights that enter the loss, each with the batch collected with them."""
    after = [(path[-1], data.query)]
    if cfg.multi_step:  # the support of step k + 1 was collected with the weights after step k
        after += zip(path[1:-1], data.support[1:], strict=True)
    return after


def exploration_loss(
    cfg: TrainConfig, agent: Agent, data: Experience, path: list[Params]
) -> Tensor:
    """Loss whose gradient credits the pre-adaptation actions with the return they led to; (N,).

    Every action that adaptation learned from, in all inner steps, gets as its advantage the return
    after adaptation, normalized over tasks. As in the paper, each task contributes the sum over its
    actions; the sum is divided by the mean number of actions, because the paper's own weight would
    let the noise of this term dominate the gradient.

    Together with the loss after adaptation, this gives the gradient of the return if the inner loss
    is `log-likelihood`. The gradients of the other inner losses already contain a part of the
    sampling term.

    Source: E-MAML, Stadie et al. 2018 (arXiv:1803.01118), section 3.1. On the inner loss it
        requires: formulation I of Rothfuss et al. 2019 (arXiv:1810.06784), section 4.
    """
    ret = torch.stack([r.episode_return().mean(1) for r in data.rollouts])  # (K + 1, N)
    signal = any_difference(data.rollouts)
    losses = []
    for k, (fast, batch) in enumerate(zip(path[:-1], data.support, strict=True)):
        later = ret[k + 1 :].mean(0) if cfg.multi_step else ret[-1]
        shift = torch.where(signal, later - all_reduce_mean(later), 0)
        credit = in_units(shift, all_reduce_mean(shift.square()).sqrt())
        mask = (batch.weight > 0).to(batch.weight.dtype)
        collected = batch._replace(
            adv=credit.unsqueeze(-1).expand_as(batch.adv),
            weight=mask / all_reduce_mean(mask.sum(1)),
        )
        losses.append(
            clipped_surrogate(act_dist(agent.policy, fast, batch.obs), collected, cfg.clip)
        )
    return torch.stack(losses).sum(dim=0)


def any_difference(rollouts: list[Rollout]) -> Tensor:
    """Whether rewards differ between any two episodes of a rank's tasks, on any rank; () bool."""
    each = []
    for r in rollouts[1:]:
        rew, mask = (x.transpose(0, 1).flatten(1).unsqueeze(0) for x in (r.rew, r.mask))
        each.append((~same_rewards(rew, mask)).sum())
    (count,) = all_reduce(torch.stack(each).sum())
    return count > 0
