"""The meta-trainer: a generator that yields a state and metrics, and never writes or prints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import reduce
from typing import Any

import torch

from metarl.agents.compilation import compiling
from metarl.agents.learners.base import check_spaces
from metarl.agents.networks.running_stats import Moments, merge, moments
from metarl.agents.rng import stream
from metarl.agents.rollouts.advantages import discounted_sum
from metarl.agents.rollouts.learned_baseline import value_loss
from metarl.agents.rollouts.rollout import check_finite
from metarl.config.family_record import check_belongs
from metarl.config.settings import TrainConfig
from metarl.distributed.collectives import all_reduce, all_reduce_named, rank_purpose, shard
from metarl.envs import Family, RunError, sample_tasks
from metarl.outer import OUTER
from metarl.outer.functional_adam import adam
from metarl.outer.train_state import TrainState, normalizing, with_weights
from metarl.outer.update import PhaseCallback, Update
from metarl.training.initialization import first_state
from metarl.training.metrics import measure
from metarl.training.new_agent import (
    new_agent as new_agent,  # for `from metarl.training.meta_train import`
)

MAX_SKIPPED = 5  # updates in a row with a non-finite gradient before a run is given up


def meta_train(
    cfg: TrainConfig,
    family: Family,
    state: TrainState | None = None,
    on_phase_end: PhaseCallback = lambda phase: None,
    compiled: bool = False,
) -> Iterator[TrainState]:
    """Yield the state after each meta-iteration, until `cfg.iterations`.

    One iteration: draw tasks; the outer rule plays, adapts, plays with the adapted weights, and
    moves slow weights and step sizes so that the same adaptation ends better.

    Args:
        state: where to go on; None starts a new agent on the CPU.
        mark: called with the name of each phase as it ends, for benchmarks.
        compiled: let `torch.compile` make programs of rollout, adaptation and meta-gradient.
    Raises:
        RunError: the family gave a NaN or infinity, or the meta-gradient wasn't finite several
            times in a row; the last state yielded is good.
        UsageError: the settings are another family's, or the state's agent has other spaces.
    """
    check_belongs(cfg, family)
    state = state or first_state(cfg, family)
    check_spaces(state.agent, family)
    while state.iteration < cfg.iterations:
        it, device = state.iteration, state.agent.device
        task = sample_tasks(family, cfg.tasks, stream(cfg.seed, "tasks", it, device), device=device)
        gen = stream(cfg.seed, rank_purpose("episodes"), it, device)
        now, own = _at(cfg, it), shard(task)
        with compiling(compiled, replays=device.type == "cuda"):
            update = OUTER[cfg.outer](now, state.agent, state.opt, family, own, gen, on_phase_end)
        if cfg.baseline == "learned":
            update = _improve_baseline(now, state.agent, update)
        if cfg.positive_steps:
            steps = {k: w for k, w in update.weights.items() if k.startswith("inner_lr/")}
            kept = {**update.weights, **{k: w.clamp(min=0.0) for k, w in steps.items()}}
            update = update._replace(weights=kept)
        skipped, state = state.skipped, _advance(state, family, update)
        rates = {f"train/{name}": getattr(now, name) for name in ("meta_lr", "meta_lr_of_steps")}
        state = dataclasses.replace(state, metrics={**state.metrics, **rates})
        if (cfg.normalize_obs or cfg.normalize_return) and state.skipped == skipped:
            state = _update_running_stats(cfg, state, update)
        del update  # else what was played would be there while the next iteration plays
        yield state


def _at(cfg: TrainConfig, iteration: int) -> TrainConfig:
    """The settings of one iteration: with `lr_decay`, by how much of `cfg.iterations` is left."""
    if not cfg.lr_decay:
        return cfg
    left = 1 - iteration / cfg.iterations
    falling = ("meta_lr", "meta_lr_of_steps", "entropy")
    return dataclasses.replace(cfg, **{name: left * getattr(cfg, name) for name in falling})


def _improve_baseline(cfg: TrainConfig, agent: Any, update: Update) -> Update:
    """One step of Adam on the features of the learned baseline, from all that was played."""
    value = {k: w.detach().requires_grad_() for k, w in agent.value.items()}
    rollouts = [r for _, collected in update.collected for r in collected]
    if agent.policy.obs_mean is not None:
        rollouts = [r._replace(obs=agent.policy.preprocess(r.obs)) for r in rollouts]
    rows = torch.full((), float(sum(len(r.rew) for r in rollouts)), device=agent.device)
    (total,) = all_reduce(rows)
    grads = {f"value/{k}": torch.zeros_like(w) for k, w in value.items()}
    for data in rollouts:
        loss = len(data.rew) / total * value_loss(value, data, cfg.gamma)
        each = torch.autograd.grad(loss, list(value.values()))
        grads = {k: g + e for (k, g), e in zip(grads.items(), each, strict=True)}
    grads = all_reduce_named(grads)
    named = {f"value/{k}": w for k, w in value.items()}
    weights, opt = adam(named, grads, update.opt, lambda name: cfg.meta_lr)
    return update._replace(weights={**update.weights, **weights}, opt=opt)


def _update_running_stats(cfg: TrainConfig, state: TrainState, update: Update) -> TrainState:
    """What was played moves the moments only now: within an iteration the policy's eyes are one."""
    running_stats, rollouts = (
        state.running_stats,
        [r for _, collected in update.collected for r in collected],
    )
    if cfg.normalize_obs:
        now = _of_all_ranks([moments(r.obs, r.mask) for r in rollouts])
        running_stats = running_stats._replace(obs=merge(running_stats.obs, now))
    if cfg.normalize_return:
        now = _of_all_ranks([moments(discounted_sum(r.rew, cfg.gamma), r.mask) for r in rollouts])
        running_stats = running_stats._replace(ret=merge(running_stats.ret, now))
    agent: Any = normalizing(state.agent, running_stats)
    return dataclasses.replace(state, agent=agent, running_stats=running_stats)


def _of_all_ranks(parts: list[Moments]) -> Moments:
    """Of all steps taken together, whichever rank played them."""
    steps, mean, var = reduce(merge, parts)
    total, mean_sum = all_reduce(steps, steps * mean)
    shift = mean - mean_sum / total
    (spread,) = all_reduce(steps * (var + shift.square()))
    return Moments(total, mean_sum / total, spread / total)


def _advance(state: TrainState, family: Family, update: Update) -> TrainState:
    """The next state: with the new weights, or the old ones if the gradient wasn't finite."""
    metrics = measure(update)
    if metrics.pop("not_finite"):
        for task, rollouts in update.collected:
            for rollout in rollouts:
                check_finite(family, task, rollout)
    env_steps = state.env_steps + int(metrics.pop("env_steps"))
    bad = not math.isfinite(metrics["train/grad_norm"])
    agent: Any = state.agent if bad else with_weights(state.agent, update.weights)
    in_a_row = state.skipped_in_a_row + 1 if bad else 0
    if in_a_row >= MAX_SKIPPED:
        solving = ", or more --cg-steps" if metrics.get("train/unsolved_tasks") else ""
        raise RunError(
            f"{why_skipped(metrics)} {in_a_row} times in a row "
            f"at iteration {state.iteration + 1}: "
            f"start a new run with a lower --inner-lr or --meta-lr{solving}."
        )
    metrics["train/skipped_updates"] = float(state.skipped + bad)
    return dataclasses.replace(
        state,
        agent=agent,
        opt=state.opt if bad else update.opt,
        iteration=state.iteration + 1,
        env_steps=env_steps,
        skipped=state.skipped + bad,
        skipped_in_a_row=in_a_row,
        metrics=metrics,
    )


def why_skipped(metrics: dict[str, float]) -> str:
    """What was wrong with an update."""
    if unsolved := metrics.get("train/unsolved_tasks"):
        return f"linear systems of {unsolved:.0f} tasks not solved"
    return "meta-gradient not finite"
