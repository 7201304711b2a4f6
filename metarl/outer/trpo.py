"""Trust region over what adaptation leads to: MAML as its paper trains policies."""

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
from metarl.outer.maml import trained_weights
from metarl.outer.meta_objective import loss_of, meta_gradient, weighed
from metarl.outer.train_state import with_weights
from metarl.outer.update import PhaseCallback, Update

if TYPE_CHECKING:
    from metarl.config.settings import TrainConfig

Weights = dict[str, Tensor]
Product = Callable[[Tensor], Tensor]  # v (P,) -> H v (P,)
SHRINK = 0.8  # of the step, each time that the line search doesn't like it


def improve(
    cfg: TrainConfig,
    agent: Agent,
    opt: dict[str, Tensor],
    family: Family,
    task: Any,
    gen: torch.Generator | None,
    on_phase_end: PhaseCallback,
) -> Update:
    """Play chunk by chunk of tasks, and move the weights once: as far as the bound lets them.

    Source: Schulman et al. 2015 (arXiv:1502.05477), section 6 and appendix C; after adaptation,
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
    """All numbers in one vector (P,)."""
    return torch.cat([x.detach().flatten() for x in tensors.values()])


def like(vector: Tensor, tensors: Weights) -> Weights:
    """A vector (P,) in the shapes of others."""
    parts = vector.split([x.numel() for x in tensors.values()])
    return {k: v.view_as(x) for v, (k, x) in zip(parts, tensors.items(), strict=True)}


def flat_gradient(
    outputs: list[Tensor], weights: Weights, cotangent: list[Tensor] | None = None, **how: bool
) -> Tensor:
    """J^T u of the outputs by the weights, (P,); of a single output () its gradient."""
    grads = torch.autograd.grad(
        outputs, list(weights.values()), cotangent, materialize_grads=True, **how
    )
    return torch.cat([g.flatten() for g in grads])


def curvature(cfg: TrainConfig, agent: Agent, weights: Weights, data: list[Experience]) -> Product:
    """v -> (H + damping) v, H the Hessian of the KL of what adaptation leads to, mean over tasks.

    Where the loss counts every step of adaptation, so does the KL: it is the mean over them too.
    With one chunk its graph is kept for all products; with several only one at a time is there.
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

    J is the derivative of the distributions after adaptation by the slow weights, F the Hessian of
    the KL in the distributions' own parameters. Where the KL is 0, F is all of its curvature that
    there is: the gradient by which J's own derivative would enter is 0 too.
    Source: Schulman et al. 2015 (arXiv:1502.05477), appendix C.1.
    """
    data = part_of_episodes(data, cfg.curvature_share)
    path = adapt_again(cfg, agent, data, cfg.second_order_steps if cfg.curvature == "exact" else 0)
    after = [(act_dist(agent.policy, fast, b.obs), b) for fast, b in weighed(cfg, data, path)]
    outputs = [x for dist, _ in after for x in dist]
    leaves = [x.detach().requires_grad_() for x in outputs]
    rest = iter(leaves)
    kl = [
        mean_kl(type(dist)(*(next(rest) for _ in dist)), batch._replace(dist=detached(dist))).sum()
        for dist, batch in after
    ]
    slope = torch.autograd.grad(torch.stack(kl).mean(), leaves, create_graph=True)
    # J v is the derivative by u of J^T u, which is linear in u.
    u = [torch.zeros_like(x, requires_grad=True) for x in outputs]
    pulled = flat_gradient(outputs, weights, u, create_graph=True)

    def product(v: Tensor) -> Tensor:
        pushed = torch.autograd.grad(pulled, u, v, retain_graph=True)
        hvp = torch.autograd.grad(slope, leaves, pushed, retain_graph=True)
        return flat_gradient(outputs, weights, list(hvp), retain_graph=True)

    return product


def part_of_episodes(data: Experience, share: float) -> Experience:
    """The same experience with the first so many of each task's episodes in its batches."""
    if share == 1:
        return data
    support = [part_of(batch, share) for batch in data.support]
    return data._replace(support=support, query=part_of(data.query, share))


def part_of(batch: Batch, share: float) -> Batch:
    """The first `share` of each task's episodes, at least one; their steps weigh 1 together."""
    episodes = max(1, round(share * batch.episodes))
    steps = batch.weight.shape[1]

    def first(x: Tensor) -> Tensor:
        if x.dim() < 2 or x.shape[1] != steps:
            return x  # the same at every step
        grid: Tensor = x.unflatten(1, (-1, batch.episodes))
        return grid[:, :, :episodes].flatten(1, 2)

    obs, act, logp, adv, weight = (first(x) for x in batch[:5])
    dist = type(batch.dist)(*(first(x) for x in batch.dist))
    return Batch(obs, act, logp, adv, weight / weight.sum(1, keepdim=True), dist, episodes)


def detached(dist: Distribution) -> Distribution:
    """The same distribution as a constant."""
    return type(dist)(*(x.detach() for x in dist))


def conjugate_gradient(product: Product, b: Tensor, steps: int) -> Tensor:
    """x with H x close to b, (P,).

    Source: Hestenes and Stiefel 1952, Methods of conjugate gradients for solving linear systems.
    """
    x, r, p = torch.zeros_like(b), b, b
    rr = enough = r @ r
    for _ in range(steps):
        hp = product(p)
        # Once solved there is nothing but rounding to go along; asking the host would be to wait.
        go = rr > 1e-10 * enough
        alpha = torch.where(go, rr / (p @ hp), 0)
        x, r = x + alpha * p, r - alpha * hp
        before, rr = rr, r @ r
        p = r + torch.where(go, rr / before, 0) * p
    return x


def trust_region_step(product: Product, grad: Tensor, cg_steps: int, max_kl: float) -> Tensor:
    """-sqrt(2 max_kl / x^T H x) x with H x close to grad: KL `max_kl` if it is quadratic; (P,)."""
    x = conjugate_gradient(product, grad, cg_steps)
    # What conjugate gradient leaves of grad is at right angles to x, so x^T H x = x^T grad.
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
    """The weights after the longest step that lowers the loss within the bound, or as they were."""
    start = {k: w.detach() for k, w in weights.items()}
    for i in range(cfg.line_search):
        part = like(SHRINK**i * step, start)
        moved = {k: w + part[k] for k, w in start.items()}
        now, kl = outcome(cfg, with_weights(agent, moved), data)
        if (now < loss) & (kl <= cfg.max_kl):  # a NaN is neither; waits for the device
            return moved
    return start


def outcome(cfg: TrainConfig, agent: Agent, data: list[Experience]) -> tuple[Tensor, Tensor]:
    """Loss after adaptation of the agent's weights, and KL from the policies that played; ()."""
    losses, kls = [], []
    for d in data:
        share = len(d.query.obs) / cfg.tasks
        with torch.enable_grad():
            path = adapt_again(cfg, agent, d, steps=0)
        path = [{k: p.detach() for k, p in fast.items()} for fast in path]
        losses.append(share * loss_of(cfg, agent, d, path))
        kl = [mean_kl(act_dist(agent.policy, fast, b.obs), b) for fast, b in weighed(cfg, d, path)]
        kls.append(share * torch.stack(kl).mean())
    total, hvp = all_reduce(torch.stack(losses).sum(), torch.stack(kls).sum())
    return total, hvp
