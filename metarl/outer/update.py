"""What outer rules share: the weights that they move, the Adam step, the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.rollouts.rollout import Rollout
from metarl.outer.functional_adam import adam, clip
from metarl.outer.train_state import named_weights

if TYPE_CHECKING:
    from metarl.config.settings import TrainConfig

Weights = dict[str, Tensor]  # by the names of `named_weights`

PhaseCallback = Callable[[str], None]  # called with the name of each phase as it ends


class Update(NamedTuple):
    """Result of one outer update."""

    weights: dict[str, Tensor]  # updated weights, by the names of `named_weights`
    opt: dict[str, Tensor]  # optimizer state for the next iteration
    collected: list[tuple[Any, list[Rollout]]]  # tasks of each chunk, with their rollouts in order
    metrics: dict[str, Tensor]  # () each: train/meta_loss, grad_norm, kl, entropy


def trained_weights(cfg: TrainConfig, agent: Agent) -> dict[str, Tensor]:
    """Leaf tensors for the weights that the outer update trains.

    Context parameters are excluded: they always start at 0.
    """
    learned = cfg.step_size != "fixed" and cfg.inner_steps > 0
    return {
        k: w.detach().requires_grad_()
        for k, w in named_weights(agent).items()
        if (k.startswith("params/") and k != "params/context")
        or (learned and k.startswith("inner_lr/"))
    }


def meta_lr(cfg: TrainConfig, name: str) -> float:
    """Adam's learning rate for a weight."""
    return cfg.meta_lr_of_steps if name.startswith("inner_lr/") else cfg.meta_lr


def clipped_adam(
    cfg: TrainConfig, weights: Weights, grads: Weights, opt: Weights
) -> tuple[Weights, Weights, Tensor]:
    """Weights and moments after one step of Adam, and the norm of the gradient before clipping."""
    grads, norm = clip(grads, cfg.max_grad_norm)
    moved, opt = adam(weights, grads, opt, lambda name: meta_lr(cfg, name))
    return moved, opt, norm
