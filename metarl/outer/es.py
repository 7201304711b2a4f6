"""Evolution strategies: a zeroth-order estimate of the meta-gradient."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metarl.agents.inner.inner_update import per_task
from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.networks.policy import act_dist
from metarl.agents.rollouts.advantages import in_units, same_rewards
from metarl.agents.rollouts.rollout import Rollout
from metarl.distributed.collectives import all_reduce_mean, all_reduce_named
from metarl.envs import Family
from metarl.outer.inner_loop import Experience, chunks, collect_and_adapt, policy_change
from metarl.outer.train_state import named_weights, with_weights
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
    """Take an Adam step that increases the return after adaptation.

    Each task evaluates `cfg.pairs` antithetic pairs. A chunk holds up to `cfg.task_chunk` agents,
    all with positive or all with negative perturbations. The tracked returns are those of the
    perturbed agents, which are slightly worse than the unperturbed one.

    Source: ES-MAML, Song et al. 2020 (arXiv:1910.01215), section 3.2, with antithetic pairs.
    """
    weights = {k: w.detach() for k, w in trained_weights(cfg, agent).items()}
    total = {k: torch.zeros_like(w) for k, w in weights.items()}
    differences, data = [], []
    rows = type(task)(*(x.repeat_interleave(cfg.pairs, dim=0) for x in task))
    for part in chunks(rows, cfg.task_chunk):
        noise = {k: directions(w, len(part[0]), gen) for k, w in weights.items()}
        pair = collect_pairs(cfg, agent, noise, family, part, gen, on_phase_end)
        difference = gain_of_up(*(d.rollouts[-1] for d in pair))
        grad = pair_gradients(noise, difference, cfg.sigma)
        total = {k: t + grad[k] for k, t in total.items()}
        differences.append(difference)
        data += pair
        on_phase_end("outer")
    count = cfg.tasks * cfg.pairs
    # Dividing by the spread of returns makes the step size independent of the reward scale.
    spread = all_reduce_mean(torch.cat(differences).square()).sqrt()
    total = all_reduce_named(total)
    grads = {k: in_units(-t / count, spread) for k, t in total.items()}
    weights, opt, norm = clipped_adam(cfg, weights, grads, opt)
    ret = all_reduce_mean(torch.cat([d.rollouts[-1].episode_return() for d in data]))
    metrics = {"train/meta_loss": -ret, "train/grad_norm": norm}
    metrics |= policy_change(with_weights(agent, weights), [unperturbed(agent, d) for d in data])
    return Update(weights, opt, [(d.task, d.rollouts) for d in data], metrics)


def gain_of_up(up: Rollout, down: Rollout) -> Tensor:
    """Mean return of `up` minus that of `down` for each pair, (n,).

    0 where all episodes received the same rewards.
    """
    gain = up.episode_return().mean(1) - down.episode_return().mean(1)
    both = (torch.cat((up.rew, down.rew), dim=2), torch.cat((up.mask, down.mask), dim=2))
    return torch.where(same_rewards(*both), 0, gain)


def directions(weight: Tensor, n: int, gen: torch.Generator | None) -> Tensor:
    """Standard normal perturbations of a weight, (n, ...)."""
    shape, device = (n, *weight.shape), weight.device
    return torch.randn(shape, generator=gen, device=device, dtype=weight.dtype)


def collect_pairs(
    cfg: TrainConfig,
    agent: Agent,
    noise: dict[str, Tensor],
    family: Family,
    task: Any,
    gen: torch.Generator | None,
    on_phase_end: PhaseCallback = lambda phase: None,
) -> list[Experience]:
    """Collect experience with perturbations `+sigma * noise` and `-sigma * noise`.

    Both members of a pair use common random numbers.

    Args:
        noise: (n, ...) for each perturbed weight; row i is for task i.
    """
    first_order = dataclasses.replace(cfg, second_order_steps=0)
    # A copy of the generator gives common random numbers in every kind of simulator.
    same_gen = copy_of(gen)
    pair = []
    for sign, pair_gen in ((1, same_gen), (-1, gen)):
        shifted = perturbed(agent, noise, sign * cfg.sigma)
        data = collect_and_adapt(first_order, shifted, family, task, pair_gen, on_phase_end)
        pair.append(data._replace(path=[]))
    return pair


def perturbed(agent: Agent, noise: dict[str, Tensor], sigma: float) -> Agent:
    """An agent whose weights have a task axis: each of n tasks has its own perturbation."""
    n = len(next(iter(noise.values())))
    batched = dataclasses.replace(agent, params=per_task(agent.params, n, agent.inner_lr))
    slow = named_weights(agent)
    return with_weights(batched, {k: slow[k] + sigma * e for k, e in noise.items()})


def pair_gradients(noise: dict[str, Tensor], difference: Tensor, sigma: float) -> dict[str, Tensor]:
    """Gradient of the return with respect to the weights, summed over n pairs; (...) each.

    An unbiased estimate of the gradient of the return smoothed by a Gaussian of width `sigma`.

    Args:
        difference: (n,) return of the positive perturbation minus that of the negative one.
    Source: Salimans et al. 2017 (arXiv:1703.03864), section 2, with the mirrored pairs of 2.1.
    """
    return {k: torch.tensordot(difference, e, 1) / (2 * sigma) for k, e in noise.items()}


def copy_of(gen: torch.Generator | None) -> torch.Generator | None:
    """A generator in the same state."""
    if gen is None:
        return None
    copy = torch.Generator(gen.device)
    copy.set_state(gen.get_state())
    return copy


def unperturbed(agent: Agent, data: Experience) -> Experience:
    """The experience with the unperturbed agent's action distributions before adaptation."""
    collected = data.support[0] if data.support else data.query
    with torch.no_grad():
        batch = collected._replace(dist=act_dist(agent.policy, agent.params, collected.obs))
    if data.support:
        return data._replace(support=[batch, *data.support[1:]])
    return data._replace(query=batch)
