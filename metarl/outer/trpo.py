"""TRPO as the outer rule: a trust region on the adapted policies, as in the MAML paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.networks.distributions import Distribution
from metarl.agents.networks.policy import act_dist
from metarl.agents.rollouts.batch import Batch, mean_kl
from metarl.distributed.collectives import all_reduce
from metarl.envs import Family
from metarl.outer.inner_loop import (
    Experience,
    adapt_again,
    chunks,
    collect_and_adapt,
    policy_change,
)
from metarl.outer.meta_objective import loss_of, meta_gradient, weighed
from metarl.outer.train_state import with_weights
from metarl.outer.update import PhaseCallback, Update, trained_weights

if TYPE_CHECKING:
    from metarl.config.settings import TrainConfig

Weights = dict[str, Tensor]
Product = Callable[[Tensor], Tensor]  # v (P,) -> H v (P,)
SHRINK = 0.8  # factor of the step after each rejection by the line search


def improve(
    cfg: TrainConfig,
    agent: Agent,
    opt: dict[str, Tensor],
    family: Family,
    task: Any,
    gen: torch.Generator | None,
    on_phase_end: PhaseCallback,
) -> Update:
    """Collect all chunks of tasks, then take one trust-region step.

    Source: Schulman et al. 2015 (arXiv:1502.05477), section 6 and appendix C. As an outer rule:
        Finn et al. 2017 (arXiv:1703.03400), section 5.3.
    """
    weights = trained_weights(cfg, agent)
    now = with_weights(agent, weights)
    loss = torch.zeros((), device=agent.device)
    grad = torch.zeros_like(flat(weights))
    data = []
    for part in chunks(task, cfg.task_chunk):
        collected = collect_and_adapt(cfg, now, family, part, gen, on_phase_end)
        share = len(part[0]) / cfg.tasks
        part_loss, each = meta_gradient(cfg, agent, weights, collected, first=True)
        grad = grad + share * flat(each)
        loss = loss + share * part_loss
        data.append(collected._replace(path=[]))  # frees the graph of the adaptation
        on_phase_end("outer")
    loss, grad = all_reduce(loss, grad)
    product = curvature(cfg, now, weights, data)
    step = trust_region_step(product, grad, cfg.cg_steps, cfg.max_kl)
    on_phase_end("conjugate gradient")
    moved = line_search(cfg, agent, weights, step, loss, data)
    on_phase_end("line search")
    metrics = {"train/meta_loss": loss, "train/grad_norm": torch.linalg.vector_norm(grad)}
    metrics |= policy_change(with_weights(agent, moved), data)
    return Update(moved, opt, [(d.task, d.rollouts) for d in data], metrics)


def flat(tensors: Weights) -> Tensor:
    """Flatten and concatenate, (P,)."""
    return torch.cat([x.detach().flatten() for x in tensors.values()])


def like(vector: Tensor, tensors: Weights) -> Weights:
    """Split a vector (P,) into tensors of the given shapes: the inverse of `flat`."""
    parts = vector.split([x.numel() for x in tensors.values()])
    return {k: v.view_as(x) for v, (k, x) in zip(parts, tensors.items(), strict=True)}


def flat_gradient(
    outputs: list[Tensor], weights: Weights, cotangent: list[Tensor] | None = None, **how: bool
) -> Tensor:
    """Vector-Jacobian product J^T u of the outputs with respect to the weights, (P,).

    For a single scalar output, its gradient.
    """
    grads = torch.autograd.grad(
        outputs, list(weights.values()), cotangent, materialize_grads=True, **how
    )
    return torch.cat([g.flatten() for g in grads])


def curvature(cfg: TrainConfig, agent: Agent, weights: Weights, data: list[Experience]) -> Product:
    """v -> (H + damping) v, where H is the Hessian of the mean KL of the adapted policies.

    If the loss averages over inner steps, so does the KL. With a single chunk, its graph is kept
    for all products; with several, each product rebuilds the graphs one at a time to save memory.
    """
    kept = [gauss_newton(cfg, agent, weights, data[0])] if len(data) == 1 else []

    def product(v: Tensor) -> Tensor:
        total = torch.zeros_like(v)
        for d in data:
            each = kept[0] if kept else gauss_newton(cfg, agent, weights, d)
            total = total + each(v) / cfg.tasks
        (total,) = all_reduce(total)
        return total + cfg.damping * v

    return product


def gauss_newton(cfg: TrainConfig, agent: Agent, weights: Weights, data: Experience) -> Product:
    """v -> J^T F J v, summed over tasks.

    J is the Jacobian of the adapted distributions with respect to the slow weights, F the Hessian
    of the KL in the distributions' parameters. Where the KL is 0 this is its exact Hessian: the
    term with the derivative of J is multiplied by the gradient of the KL, which is 0 too.

    Source: Schulman et al. 2015 (arXiv:1502.05477), appendix C.1.
    """
    data = part_of_episodes(data, cfg.curvature_share)
    path = adapt_again(cfg, agent, data, cfg.second_order_steps if cfg.curvature == "exact" else 0)
    after = [(act_dist(agent.policy, fast, b.obs), b) for fast, b in weighed(cfg, data, path)]
    outputs = [x for dist, _ in after for x in dist]
    leaves = [x.detach().requires_grad_() for x in outputs]
    next_leaf = iter(leaves)
    kl = [
        mean_kl(
            type(dist)(*(next(next_leaf) for _ in dist)), batch._replace(dist=detached(dist))
        ).sum()
        for dist, batch in after
    ]
    kl_grad = torch.autograd.grad(torch.stack(kl).mean(), leaves, create_graph=True)
    # J^T u is linear in u, so the VJP of u -> J^T u with cotangent v is J v.
    u = [torch.zeros_like(x, requires_grad=True) for x in outputs]
    vjp = flat_gradient(outputs, weights, u, create_graph=True)

    def product(v: Tensor) -> Tensor:
        jvp = torch.autograd.grad(vjp, u, v, retain_graph=True)
        hvp = torch.autograd.grad(kl_grad, leaves, jvp, retain_graph=True)
        return flat_gradient(outputs, weights, list(hvp), retain_graph=True)

    return product


def part_of_episodes(data: Experience, share: float) -> Experience:
    """The experience with only a share of each task's episodes in its batches."""
    if share == 1:
        return data
    support = [part_of(batch, share) for batch in data.support]
    return data._replace(support=support, query=part_of(data.query, share))


def part_of(batch: Batch, share: float) -> Batch:
    """The first `share` of each task's episodes, at least one; their weights sum to 1."""
    episodes = max(1, round(share * batch.episodes))
    steps = batch.weight.shape[1]

    def first(x: Tensor) -> Tensor:
        if x.dim() < 2 or x.shape[1] != steps:
            return x  # shared by all steps
        grid: Tensor = x.unflatten(1, (-1, batch.episodes))
        return grid[:, :, :episodes].flatten(1, 2)

    obs, act, logp, adv, weight = (first(x) for x in batch[:5])
    dist = type(batch.dist)(*(first(x) for x in batch.dist))
    return Batch(obs, act, logp, adv, weight / weight.sum(1, keepdim=True), dist, episodes)


def detached(dist: Distribution) -> Distribution:
    """The distribution with detached parameters."""
    return type(dist)(*(x.detach() for x in dist))


def conjugate_gradient(product: Product, b: Tensor, steps: int) -> Tensor:
    """Solve H x = b approximately, (P,).

    Source: Hestenes and Stiefel 1952, Methods of conjugate gradients for solving linear systems.
    """
    x, r, p = torch.zeros_like(b), b, b
    rr = rr_start = r @ r
    for _ in range(steps):
        hp = product(p)
        # Once solved, r is rounding error. Masking on the device avoids a host synchronization.
        unsolved = rr > 1e-10 * rr_start
        alpha = torch.where(unsolved, rr / (p @ hp), 0)
        x, r = x + alpha * p, r - alpha * hp
        rr_prev, rr = rr, r @ r
        p = r + torch.where(unsolved, rr / rr_prev, 0) * p
    return x


def trust_region_step(product: Product, grad: Tensor, cg_steps: int, max_kl: float) -> Tensor:
    """-sqrt(2 max_kl / x^T H x) x with H x close to grad, (P,).

    The KL of this step is `max_kl` in the quadratic approximation.
    """
    x = conjugate_gradient(product, grad, cg_steps)
    # The residual of conjugate gradient is orthogonal to x, so x^T H x = x^T grad.
    return -(2 * max_kl / (x @ grad)).sqrt() * x


@torch.no_grad()
def line_search(
    cfg: TrainConfig,
    agent: Agent,
    weights: Weights,
    step: Tensor,
    loss: Tensor,
    data: list[Experience],
) -> Weights:
    """Backtrack to the longest step that lowers the loss within the KL bound.

    Returns the unchanged weights if no step does.
    """
    start = {k: w.detach() for k, w in weights.items()}
    for i in range(cfg.line_search):
        shrunk = like(SHRINK**i * step, start)
        moved = {k: w + shrunk[k] for k, w in start.items()}
        new_loss, kl = outcome(cfg, with_weights(agent, moved), data)
        if (new_loss < loss) & (kl <= cfg.max_kl):  # False for NaN; synchronizes with the device
            return moved
    return start


def outcome(cfg: TrainConfig, agent: Agent, data: list[Experience]) -> tuple[Tensor, Tensor]:
    """Loss after adaptation, and KL from the collecting policies; () each."""
    losses, kls = [], []
    for d in data:
        share = len(d.query.obs) / cfg.tasks
        with torch.enable_grad():
            path = adapt_again(cfg, agent, d, steps=0)
        path = [{k: p.detach() for k, p in fast.items()} for fast in path]
        losses.append(share * loss_of(cfg, agent, d, path))
        kl = [mean_kl(act_dist(agent.policy, fast, b.obs), b) for fast, b in weighed(cfg, d, path)]
        kls.append(share * torch.stack(kl).mean())
    loss, kl_sum = all_reduce(torch.stack(losses).sum(), torch.stack(kls).sum())
    return loss, kl_sum
