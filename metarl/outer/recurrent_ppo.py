"""Meta-training of agents that adapt in their memory: PPO over whole trials."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from metarl.agents.learners.recurrent_agent import MemoryAgent, Steps, pack_episodes
from metarl.agents.networks.policy import Params
from metarl.agents.networks.recurrent_policy import MemoryPolicy, recurrent_forward
from metarl.agents.rollouts.advantages import discounted_sum, in_units, same_rewards
from metarl.agents.rollouts.batch import Batch, clipped_surrogate, mean_kl
from metarl.agents.rollouts.rollout import Rollout
from metarl.distributed.collectives import all_reduce, process_group
from metarl.envs import Family
from metarl.outer.functional_adam import adam, clip
from metarl.outer.inner_loop import chunks
from metarl.outer.train_state import named_weights
from metarl.outer.update import PhaseCallback, Update

if TYPE_CHECKING:
    from metarl.config.settings import TrainConfig


class Trials(NamedTuple):
    """M whole trials as the loss sees them; the living steps of each at the front."""

    steps: Steps  # (T, M, ...)
    adv: Tensor  # (T, M) normalised over all living steps; 0 in the padding
    ret: Tensor  # (T, M) what the value is to become
    spread: Tensor  # () standard deviation of `ret`, which makes the value loss free of units
    reach: float  # steps ahead that count, the critic's unit: its output is a reward a step


def improve(
    cfg: TrainConfig,
    agent: MemoryAgent,
    opt: dict[str, Tensor],
    family: Family,
    task: Any,
    gen: torch.Generator | None,
    on_phase_end: PhaseCallback = lambda phase: None,
) -> Update:
    """Play `cfg.episodes` new trials of each task; go over them `cfg.epochs` times.

    Source: PPO, Schulman et al. 2017 (arXiv:1707.06347), over trials as in RL², Duan et al. 2016
        (arXiv:1611.02779), section 2.2.
    """
    collected = [
        (part, collect_trials(cfg, agent, family, part, gen))
        for part in chunks(task, cfg.task_chunk)
    ]
    on_phase_end("rollout")
    trials = make_trials(cfg, agent, family.horizon, [rollouts for _, rollouts in collected])
    weights = named_weights(agent)
    parts = min(
        cfg.minibatches, cfg.tasks // process_group().size * cfg.episodes
    )  # alike on all ranks
    metrics = []
    for _ in range(cfg.epochs):
        for few in split(trials, parts, gen):
            live = {k: w.detach().requires_grad_() for k, w in weights.items()}
            params = {k.removeprefix("params/"): w for k, w in live.items()}
            loss, kl, entropy = trial_loss(cfg, agent.policy, params, few)
            each = torch.autograd.grad(loss, list(live.values()))
            loss, kl, entropy, *sums = all_reduce(loss.detach(), kl, entropy, *each)
            grads, norm = clip(dict(zip(live, sums, strict=True)), cfg.max_grad_norm)
            weights, opt = adam(live, grads, opt, lambda name: cfg.meta_lr)
            metrics.append(torch.stack((loss, norm, kl, entropy)))
    on_phase_end("outer")
    names = ("train/meta_loss", "train/grad_norm", "train/kl", "train/entropy")
    means = dict(zip(names, torch.stack(metrics).mean(0), strict=True))
    return Update(weights, opt, collected, means)


def collect_trials(
    cfg: TrainConfig, agent: MemoryAgent, family: Family, task: Any, gen: torch.Generator | None
) -> list[Rollout]:
    """The `cfg.trial` episodes of `cfg.episodes` new trials of each task, in turn."""
    agent, rollouts = dataclasses.replace(agent, memory=None), []
    for episode in range(cfg.trial):
        rollouts.append(agent.play(family, task, cfg.episodes, gen))
        if episode < cfg.trial - 1:
            agent = agent.learn(rollouts[-1])
    return rollouts


@torch.no_grad()
def make_trials(
    cfg: TrainConfig, agent: MemoryAgent, horizon: int, collected: list[list[Rollout]]
) -> Trials:
    """All chunks' trials side by side, with advantages over what the agent's own critic expects.

    Returns are those of the whole trial: the value of what comes after an episode's end counts,
    up to the trial's end, where it is 0.
    """
    policy, new = agent.policy, dataclasses.replace(agent, memory=None)
    chunks = []
    for rollouts in collected:
        n, _, b = rollouts[0].rew.shape
        chunks.append(pack_episodes(policy, rollouts, new.hidden_state_for(n, b)))
    steps = side_by_side(chunks)
    steps = steps._replace(rew=policy.scaled(steps.rew))
    state = _blank(policy, steps)
    _, val, _ = recurrent_forward(policy, agent.params, steps.x, state, steps.mask)
    reach = sum(cfg.gamma**t for t in range(cfg.trial * horizon))
    val = reach * val
    adv = trial_gae(steps.rew, val, steps.mask, cfg.gamma, cfg.gae_lambda)
    ret = adv + val * steps.mask
    mean, spread = moments(ret, steps.mask)
    # Where all returns are equal their size is the unit, not what rounding makes of their spread.
    size = (mean.square() + spread.square()).sqrt()
    spread = torch.where(spread > ret.shape[0] * torch.finfo(ret.dtype).eps * size, spread, size)
    adv = torch.where(any_signal(collected), normalize(adv, steps.mask), 0)
    return Trials(steps, adv, ret, spread, reach)


def any_signal(collected: list[list[Rollout]]) -> Tensor:
    """Whether any trials of one task, on any rank, got other rewards than its others; () bool.

    If not, advantages are nothing but the critic's errors.
    """
    each = [(~same_rewards(r.rew, r.mask)).sum() for rollouts in collected for r in rollouts]
    (count,) = all_reduce(torch.stack(each).sum())
    return count > 0


def trial_gae(rew: Tensor, val: Tensor, mask: Tensor, gamma: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimate, (T, M); 0 in the padding. Time is the first axis.

    Source: Schulman et al. 2016 (arXiv:1506.02438), section 3.
    """
    val = val * mask
    after = torch.cat((val[1:], torch.zeros_like(val[:1])))
    delta = (rew + gamma * after - val) * mask
    return discounted_sum(delta.unsqueeze(0), gamma * gae_lambda).squeeze(0)


def normalize(adv: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over all living steps; 0 in the padding."""
    mean, std = moments(adv, mask)
    return in_units(adv - mean, std) * mask


def moments(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over all living steps, ()."""
    (count,) = all_reduce(mask.sum())
    weight = mask / count
    (mean,) = all_reduce((x * weight).sum())
    (var,) = all_reduce(((x - mean).square() * weight).sum())
    return mean, var.sqrt()


def trial_loss(
    cfg: TrainConfig, policy: MemoryPolicy, params: Params, trials: Trials
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, KL from the collecting policy (nats) and entropy (nats).

    Each is this rank's share of the mean over the living steps of all ranks.
    """
    steps = trials.steps
    (count,) = all_reduce(steps.mask.sum())
    weight = steps.mask / count
    dist, val, _ = recurrent_forward(policy, params, steps.x, _blank(policy, steps), steps.mask)
    batch = Batch(steps.x, steps.act, steps.logp, trials.adv, weight, steps.dist, 1)
    entropy = (dist.entropy() * weight).sum()
    missed = in_units(trials.reach * val - trials.ret, trials.spread)
    value_loss = (missed.square() * weight).sum()  # share of the variance that is left unexplained
    loss = clipped_surrogate(dist, batch, cfg.clip).sum()
    loss = loss + cfg.value_weight * value_loss - cfg.entropy * entropy
    with torch.no_grad():
        kl = mean_kl(dist, batch).sum()
    return loss, kl, entropy.detach()


def split(trials: Trials, parts: int, gen: torch.Generator | None) -> list[Trials]:
    """The trials in random order, in `parts` parts of about one size."""
    m, device = trials.adv.shape[1], trials.adv.device
    order = torch.randperm(m, generator=gen, device=device)
    return [_columns(trials, index) for index in order.tensor_split(min(parts, m))]


def _columns(trials: Trials, index: Tensor) -> Trials:
    """Trials `index`, in that order."""

    def pick(x: Tensor) -> Tensor:
        return x[:, index] if x.dim() > 1 else x

    steps = trials.steps
    dist = type(steps.dist)(*map(pick, steps.dist))
    x, act, logp, rew, mask = map(pick, steps[:5])
    few = Steps(x, act, logp, rew, mask, dist)
    return trials._replace(steps=few, adv=pick(trials.adv), ret=pick(trials.ret))


def side_by_side(chunks: list[Steps]) -> Steps:
    """All chunks as one, (T, sum of M, ...); shorter ones are padded with 0."""
    if len(chunks) == 1:
        return chunks[0]
    length = max(len(c.rew) for c in chunks)

    def join(parts: tuple[Tensor, ...]) -> Tensor:
        if parts[0].dim() < 2:  # the same for all
            return parts[0]
        full = [torch.cat((x, x.new_zeros(length - len(x), *x.shape[1:]))) for x in parts]
        return torch.cat(full, dim=1)

    *rest, dists = zip(*chunks, strict=True)
    dist = type(dists[0])(*map(join, zip(*dists, strict=True)))
    x, act, logp, rew, mask = map(join, rest)
    return Steps(x, act, logp, rew, mask, dist)


def _blank(policy: MemoryPolicy, steps: Steps) -> Tensor:
    """The state with which all M trials start."""
    return steps.x.new_zeros(steps.x.shape[1], *policy.cell.state_shape)
