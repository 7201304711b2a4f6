"""Evolution strategies over adaptation: the slope of returns, measured by trying."""

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
from metarl.outer.functional_adam import adam, clip
from metarl.outer.inner_loop import Experience, chunks, collect_and_adapt, policy_change
from metarl.outer.maml import trained_weights
from metarl.outer.train_state import named_weights, with_weights
from metarl.outer.update import PhaseCallback, Update

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
    """One step of Adam up the return after adaptation, `cfg.pairs` antithetic pairs a task.

    At once play up to `cfg.task_chunk` agents, those above the slow weights of as many pairs or
    those below. What is tracked is what was played: by agents that are a little worse.
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
        slope = pair_gradients(noise, difference, cfg.sigma)
        total = {k: t + slope[k] for k, t in total.items()}
        differences.append(difference)
        data += pair
        on_phase_end("outer")
    count = cfg.tasks * cfg.pairs
    # In units of the spread of returns, so that one step size serves worlds of all rewards.
    spread = all_reduce_mean(torch.cat(differences).square()).sqrt()
    total = all_reduce_named(total)
    grads = {k: in_units(-t / count, spread) for k, t in total.items()}
    grads, norm = clip(grads, cfg.max_grad_norm)
    weights, opt = adam(weights, grads, opt, lambda name: cfg.meta_lr)
    ret = all_reduce_mean(torch.cat([d.rollouts[-1].episode_return() for d in data]))
    metrics = {"train/meta_loss": -ret, "train/grad_norm": norm}
    metrics |= policy_change(with_weights(agent, weights), [of_centre(agent, d) for d in data])
    return Update(weights, opt, [(d.task, d.rollouts) for d in data], metrics)


def gain_of_up(up: Rollout, down: Rollout) -> Tensor:
    """Mean return above minus below of each pair, (n,); 0 where all episodes got the same."""
    gain = up.episode_return().mean(1) - down.episode_return().mean(1)
    both = (torch.cat((up.rew, down.rew), dim=2), torch.cat((up.mask, down.mask), dim=2))
    return torch.where(same_rewards(*both), 0, gain)


def directions(weight: Tensor, n: int, gen: torch.Generator | None) -> Tensor:
    """Standard normal, (n, ...)."""
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
    """What agents play at `sigma * noise` above the slow weights and, with the same luck, below.

    Args:
        noise: (n, ...) of each perturbed weight; row i plays task i.
    """
    first_order = dataclasses.replace(cfg, second_order_steps=0)
    # The same stream twice is the same luck in every kind of simulator.
    again = copy_of(gen)
    pair = []
    for sign, luck in ((1, again), (-1, gen)):
        moved = perturbed(agent, noise, sign * cfg.sigma)
        data = collect_and_adapt(first_order, moved, family, task, luck, on_phase_end)
        pair.append(data._replace(path=[]))
    return pair


def perturbed(agent: Agent, noise: dict[str, Tensor], sigma: float) -> Agent:
    """n agents as one whose weights have a task axis: each starts from slow weights of its own."""
    n = len(next(iter(noise.values())))
    own = dataclasses.replace(agent, params=per_task(agent.params, n, agent.inner_lr))
    slow = named_weights(agent)
    return with_weights(own, {k: slow[k] + sigma * e for k, e in noise.items()})


def pair_gradients(noise: dict[str, Tensor], difference: Tensor, sigma: float) -> dict[str, Tensor]:
    """Slope of the return by the weights as each of n pairs measured it, summed over them; (...).

    An unbiased estimate of the gradient of the return that is blurred by a normal of `sigma`.
    Args:
        difference: (n,) return above minus return below.
    Source: Salimans et al. 2017 (arXiv:1703.03864), section 2, with the mirrored pairs of 2.1.
    """
    return {k: torch.tensordot(difference, e, 1) / (2 * sigma) for k, e in noise.items()}


def copy_of(gen: torch.Generator | None) -> torch.Generator | None:
    """A stream that gives the same numbers."""
    if gen is None:
        return None
    copy = torch.Generator(gen.device)
    copy.set_state(gen.get_state())
    return copy


def of_centre(agent: Agent, data: Experience) -> Experience:
    """As if the unperturbed agent had met what was seen before adaptation."""
    collected = data.support[0] if data.support else data.query
    with torch.no_grad():
        batch = collected._replace(dist=act_dist(agent.policy, agent.params, collected.obs))
    if data.support:
        return data._replace(support=[batch, *data.support[1:]])
    return data._replace(query=batch)
