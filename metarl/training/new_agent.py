"""Untrained agents."""

from __future__ import annotations

import torch

from metarl.agents.inner.fast_weights import FAST
from metarl.agents.learners.gradient_agent import Agent, InnerRule
from metarl.agents.learners.recurrent_agent import AnyAgent, MemoryAgent
from metarl.agents.networks.choose import make_policy
from metarl.agents.networks.recurrent_policy import MemoryPolicy
from metarl.agents.rng import stream
from metarl.agents.rollouts.learned_baseline import initial_value
from metarl.config.compatibility import check_combination
from metarl.config.settings import TrainConfig
from metarl.envs import Family, UsageError, probe


def new_agent(cfg: TrainConfig, family: Family, device: torch.device | str = "cpu") -> AnyAgent:
    """An untrained agent; its weights depend only on `cfg.seed`.

    Raises:
        UsageError: the family breaks the contract of `envs.Family` or has spaces that no policy
            supports; or settings exclude each other.
    """
    check_combination(cfg)
    probe(family)
    if cfg.memory != "none":
        return _new_memory_agent(cfg, family).to(device)
    policy = make_policy(
        family,
        cfg.network,
        cfg.hidden,
        cfg.log_std_init,
        context=cfg.context if cfg.fast == "context" else 0,
        rank=cfg.rank if cfg.fast == "lora" else 0,
    )
    params = policy.initial(stream(cfg.seed, "weights"))
    names = FAST[cfg.fast](policy)
    if not names:
        raise UsageError(
            f"--fast {cfg.fast}: a network without hidden layers has no such weights, so nothing "
            "would adapt; give layers, such as --hidden 64, or another --fast."
        )
    inner_lr = {k: torch.full(_step_size_shape(cfg, params[k]), float(cfg.inner_lr)) for k in names}
    rule = InnerRule(
        cfg.gamma,
        cfg.gae_lambda,
        cfg.baseline,
        cfg.estimator,
        cfg.dice_lambda,
        cfg.inner_entropy,
        cfg.inner_max_norm,
        cfg.inner_iterations,
        per_step=cfg.step_size == "per-step",
    )
    value = {}
    if cfg.baseline == "learned":
        value = initial_value(family.observation_space, stream(cfg.seed, "value"))
    return Agent(policy, params, inner_lr, rule, value).to(device)


def _step_size_shape(cfg: TrainConfig, weight: torch.Tensor) -> tuple[int, ...]:
    """Shape of a weight's step size."""
    if cfg.step_size == "per-step":
        return (max(cfg.inner_steps, 1),)
    return tuple(weight.shape) if cfg.step_size == "per-weight" else ()


def _new_memory_agent(cfg: TrainConfig, family: Family) -> MemoryAgent:
    """A recurrent agent with `cfg.hidden[-1]` units."""
    policy = MemoryPolicy(
        family.observation_space,
        family.action_space,
        cfg.memory,  # type: ignore[arg-type]
        cfg.hidden[-1],
        cfg.log_std_init,
    )
    return MemoryAgent(policy, policy.initial(stream(cfg.seed, "weights")))
