"""The meta-training loop: a generator of states that never writes or prints."""

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

MAX_SKIPPED = 5  # consecutive updates with a non-finite gradient before training fails


def meta_train(
    cfg: TrainConfig,
    family: Family,
    state: TrainState | None = None,
    on_phase_end: PhaseCallback = lambda phase: None,
    compiled: bool = False,
) -> Iterator[TrainState]:
    """Yield the state after each meta-iteration, until `cfg.iterations`.

    Each iteration draws tasks. The outer rule then collects episodes, adapts, collects episodes
    with the adapted weights, and updates the slow weights and step sizes.

    Args:
        state: resume from this state; None starts a new agent on the CPU.
        on_phase_end: called with the name of each phase as it ends, for benchmarks.
        compiled: compile rollout, adaptation and meta-gradient with `torch.compile`.
    Raises:
        RunError: the family produced a NaN or infinity, or `MAX_SKIPPED` consecutive meta-gradients
            were not finite; the last state yielded is valid.
        UsageError: the settings belong to another family, or the agent's spaces differ from it.
    """
    check_belongs(cfg, family)
    state = state or first_state(cfg, family)
    check_spaces(state.agent, family)
    while state.iteration < cfg.iterations:
        it, device = state.iteration, state.agent.device
        task = sample_tasks(family, cfg.tasks, stream(cfg.seed, "tasks", it, device), device=device)
        gen = stream(cfg.seed, rank_purpose("episodes"), it, device)
        cfg_now, local = _scheduled(cfg, it), shard(task)
        with compiling(compiled, replays=device.type == "cuda"):
            update = OUTER[cfg.outer](
                cfg_now, state.agent, state.opt, family, local, gen, on_phase_end
            )
        if cfg.baseline == "learned":
            update = _update_learned_baseline(cfg_now, state.agent, update)
        if cfg.positive_steps:
            steps = {k: w for k, w in update.weights.items() if k.startswith("inner_lr/")}
            clamped = {**update.weights, **{k: w.clamp(min=0.0) for k, w in steps.items()}}
            update = update._replace(weights=clamped)
        skipped, state = state.skipped, _advance(state, family, update)
        names = ("meta_lr", "meta_lr_of_steps")
        rates = {f"train/{name}": getattr(cfg_now, name) for name in names}
        state = dataclasses.replace(state, metrics={**state.metrics, **rates})
        if (cfg.normalize_obs or cfg.normalize_return) and state.skipped == skipped:
            state = _update_running_stats(cfg, state, update)
        del update  # frees its rollouts before the next iteration collects new ones
        yield state


def _scheduled(cfg: TrainConfig, iteration: int) -> TrainConfig:
    """The settings of an iteration; with `lr_decay`, rates fall linearly to 0."""
    if not cfg.lr_decay:
        return cfg
    factor = 1 - iteration / cfg.iterations
    decayed = ("meta_lr", "meta_lr_of_steps", "entropy")
    return dataclasses.replace(cfg, **{name: factor * getattr(cfg, name) for name in decayed})


def _update_learned_baseline(cfg: TrainConfig, agent: Any, update: Update) -> Update:
    """Take an Adam step on the features of the learned baseline, on all collected rollouts."""
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
    """Update the running statistics after the outer step: they are frozen within an iteration."""
    running_stats = state.running_stats
    rollouts = [r for _, collected in update.collected for r in collected]
    if cfg.normalize_obs:
        new = _merge_over_ranks([moments(r.obs, r.mask) for r in rollouts])
        running_stats = running_stats._replace(obs=merge(running_stats.obs, new))
    if cfg.normalize_return:
        returns = [moments(discounted_sum(r.rew, cfg.gamma), r.mask) for r in rollouts]
        running_stats = running_stats._replace(
            ret=merge(running_stats.ret, _merge_over_ranks(returns))
        )
    agent: Any = normalizing(state.agent, running_stats)
    return dataclasses.replace(state, agent=agent, running_stats=running_stats)


def _merge_over_ranks(parts: list[Moments]) -> Moments:
    """Moments over the steps of all parts on all ranks."""
    steps, mean, var = reduce(merge, parts)
    total, mean_sum = all_reduce(steps, steps * mean)
    shift = mean - mean_sum / total
    (spread,) = all_reduce(steps * (var + shift.square()))
    return Moments(total, mean_sum / total, spread / total)


def _advance(state: TrainState, family: Family, update: Update) -> TrainState:
    """The next state; keeps the old weights if the gradient is not finite."""
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
        more_steps = ", or more --cg-steps" if metrics.get("train/unsolved_tasks") else ""
        raise RunError(
            f"{why_skipped(metrics)} {in_a_row} times in a row "
            f"at iteration {state.iteration + 1}: "
            f"start a new run with a lower --inner-lr or --meta-lr{more_steps}."
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
    """The reason why an update was skipped."""
    if unsolved := metrics.get("train/unsolved_tasks"):
        return f"linear systems of {unsolved:.0f} tasks not solved"
    return "meta-gradient not finite"
