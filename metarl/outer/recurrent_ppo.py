"""Meta-training of recurrent agents: PPO over whole trials, as in RL²."""

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
from metarl.outer.inner_loop import chunks
from metarl.outer.train_state import named_weights
from metarl.outer.update import PhaseCallback, Update, clipped_adam

if TYPE_CHECKING:
    from metarl.config.settings import TrainConfig


class Trials(NamedTuple):
    """M whole trials, with the valid steps of each first and padding after them."""

    steps: Steps  # (T, M, ...)
    adv: Tensor  # (T, M) normalized over all valid steps; 0 in the padding
    ret: Tensor  # (T, M) target of the value function
    spread: Tensor  # () standard deviation of `ret`, which makes the value loss unitless
    reach: float  # effective horizon in steps; the critic's output times this is the value


def improve(
    cfg: TrainConfig,
    agent: MemoryAgent,
    opt: dict[str, Tensor],
    family: Family,
    task: Any,
    gen: torch.Generator | None,
    on_phase_end: PhaseCallback = lambda phase: None,
) -> Update:
    """Collect `cfg.episodes` new trials of each task, then run `cfg.epochs` epochs of PPO on them.

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
    # All ranks must use the same number of minibatches.
    parts = min(cfg.minibatches, cfg.tasks // process_group().size * cfg.episodes)
    metrics = []
    for _ in range(cfg.epochs):
        for minibatch in split(trials, parts, gen):
            leaves = {k: w.detach().requires_grad_() for k, w in weights.items()}
            params = {k.removeprefix("params/"): w for k, w in leaves.items()}
            loss, kl, entropy = trial_loss(cfg, agent.policy, params, minibatch)
            each = torch.autograd.grad(loss, list(leaves.values()))
            loss, kl, entropy, *sums = all_reduce(loss.detach(), kl, entropy, *each)
            grads = dict(zip(leaves, sums, strict=True))
            weights, opt, norm = clipped_adam(cfg, leaves, grads, opt)
            metrics.append(torch.stack((loss, norm, kl, entropy)))
    on_phase_end("outer")
    names = ("train/meta_loss", "train/grad_norm", "train/kl", "train/entropy")
    means = dict(zip(names, torch.stack(metrics).mean(0), strict=True))
    return Update(weights, opt, collected, means)


def collect_trials(
    cfg: TrainConfig, agent: MemoryAgent, family: Family, task: Any, gen: torch.Generator | None
) -> list[Rollout]:
    """Collect `cfg.episodes` new trials of each task, one rollout per episode of a trial."""
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
    """Pack the trials of all chunks, with advantages estimated by the agent's critic.

    Returns run to the end of the trial: the value bootstraps across the ends of episodes, and is 0
    at the end of the trial.
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
    # If all returns are equal, the spread is rounding error: use their magnitude instead.
    size = (mean.square() + spread.square()).sqrt()
    spread = torch.where(spread > ret.shape[0] * torch.finfo(ret.dtype).eps * size, spread, size)
    adv = torch.where(any_signal(collected), normalize(adv, steps.mask), 0)
    return Trials(steps, adv, ret, spread, reach)


def any_signal(collected: list[list[Rollout]]) -> Tensor:
    """Whether rewards differ between trials of a task, on any rank; () bool.

    If not, advantages consist only of the critic's errors.
    """
    each = [(~same_rewards(r.rew, r.mask)).sum() for rollouts in collected for r in rollouts]
    (count,) = all_reduce(torch.stack(each).sum())
    return count > 0


def trial_gae(rew: Tensor, val: Tensor, mask: Tensor, gamma: float, gae_lambda: float) -> Tensor:
    """Generalized advantage estimation, (T, M); 0 in the padding. Time is the first axis.

    Source: Schulman et al. 2016 (arXiv:1506.02438), section 3.
    """
    val = val * mask
    after = torch.cat((val[1:], torch.zeros_like(val[:1])))
    delta = (rew + gamma * after - val) * mask
    return discounted_sum(delta.unsqueeze(0), gamma * gae_lambda).squeeze(0)


def normalize(adv: Tensor, mask: Tensor) -> Tensor:
    """Normalize to mean 0 and standard deviation 1 over all valid steps; 0 in the padding."""
    mean, std = moments(adv, mask)
    return in_units(adv - mean, std) * mask


def moments(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the valid steps of all ranks, ()."""
    (count,) = all_reduce(mask.sum())
    weight = mask / count
    (mean,) = all_reduce((x * weight).sum())
    (var,) = all_reduce(((x - mean).square() * weight).sum())
    return mean, var.sqrt()


def trial_loss(
    cfg: TrainConfig, policy: MemoryPolicy, params: Params, trials: Trials
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, KL from the collecting policy (nats) and entropy (nats).

    Each is this rank's share of the mean over the valid steps of all ranks.
    """
    steps = trials.steps
    (count,) = all_reduce(steps.mask.sum())
    weight = steps.mask / count
    dist, val, _ = recurrent_forward(policy, params, steps.x, _blank(policy, steps), steps.mask)
    batch = Batch(steps.x, steps.act, steps.logp, trials.adv, weight, steps.dist, 1)
    entropy = (dist.entropy() * weight).sum()
    error = in_units(trials.reach * val - trials.ret, trials.spread)
    value_loss = (error.square() * weight).sum()  # unexplained share of the variance
    loss = clipped_surrogate(dist, batch, cfg.clip).sum()
    loss = loss + cfg.value_weight * value_loss - cfg.entropy * entropy
    with torch.no_grad():
        kl = mean_kl(dist, batch).sum()
    return loss, kl, entropy.detach()


def split(trials: Trials, parts: int, gen: torch.Generator | None) -> list[Trials]:
    """Shuffle the trials and split them into `parts` minibatches of nearly equal size."""
    m, device = trials.adv.shape[1], trials.adv.device
    order = torch.randperm(m, generator=gen, device=device)
    return [_columns(trials, index) for index in order.tensor_split(min(parts, m))]


def _columns(trials: Trials, index: Tensor) -> Trials:
    """Select trials by index, in the given order."""

    def pick(x: Tensor) -> Tensor:
        return x[:, index] if x.dim() > 1 else x

    steps = trials.steps
    dist = type(steps.dist)(*map(pick, steps.dist))
    x, act, logp, rew, mask = map(pick, steps[:5])
    selected = Steps(x, act, logp, rew, mask, dist)
    return trials._replace(steps=selected, adv=pick(trials.adv), ret=pick(trials.ret))


def side_by_side(chunks: list[Steps]) -> Steps:
    """Concatenate chunks, (T, sum of M, ...); shorter ones are padded with 0."""
    if len(chunks) == 1:
        return chunks[0]
    length = max(len(c.rew) for c in chunks)

    def join(parts: tuple[Tensor, ...]) -> Tensor:
        if parts[0].dim() < 2:  # shared by all steps
            return parts[0]
        full = [torch.cat((x, x.new_zeros(length - len(x), *x.shape[1:]))) for x in parts]
        return torch.cat(full, dim=1)

    *rest, dists = zip(*chunks, strict=True)
    dist = type(dists[0])(*map(join, zip(*dists, strict=True)))
    x, act, logp, rew, mask = map(join, rest)
    return Steps(x, act, logp, rew, mask, dist)


def _blank(policy: MemoryPolicy, steps: Steps) -> Tensor:
    """Initial hidden state of all M trials: zeros."""
    return steps.x.new_zeros(steps.x.shape[1], *policy.cell.state_shape)
