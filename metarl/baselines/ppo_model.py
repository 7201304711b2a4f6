"""Stable-Baselines3's PPO for baselines: settings, environments and weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from metarl.envs import Family, UsageError, parameters
from metarl.sb3.interop import to_vec_env

if TYPE_CHECKING:
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv

OPTIMIZER = "optimizer/"


@dataclass(frozen=True)
class PPOSettings:
    """Settings of PPO, of which discount, GAE lambda and network are shared with the agent.

    Attributes:
        minibatches: maximum number of minibatches, all of the same size.
        entropy: weight of the entropy bonus, per nat.
        log_std_init: initial log standard deviation, in half action ranges.
        told: condition the policy on the task.
    """

    gamma: float
    gae_lambda: float
    hidden: tuple[int, ...]
    lr: float
    epochs: int = 10
    minibatches: int = 4
    entropy: float = 0.0
    log_std_init: float = 0.0
    seed: int = 0
    told: bool = False


def ppo_env(cfg: PPOSettings, family: Family, task: Any, copies: int = 1) -> VecEnv:
    """`copies` environments of each task, with flat observations and actions in [-1, 1]."""
    from metarl.baselines.told_the_task import FlatView, task_numbers

    env = to_vec_env(family, task, copies, unit_actions=True)
    if not cfg.told:
        return FlatView(env)
    return FlatView(env, task_numbers(parameters(family), env.task))


def new_ppo(cfg: PPOSettings, env: Any, n_steps: int, like: PPO | None = None) -> PPO:
    """A model that collects `n_steps` steps of each environment before each update.

    Args:
        env: from `ppo_env`.
        like: copy the weights and the optimizer state of this model.
    """
    from stable_baselines3 import PPO

    from metarl.baselines.told_the_task import ModulatedPolicy

    batch = n_steps * env.num_envs
    divisors = [d for d in range(1, cfg.minibatches + 1) if batch % d == 0 and 2 * d <= batch]
    network: dict[str, Any] = {
        "net_arch": list(cfg.hidden),
        "activation_fn": nn.Tanh,
        "log_std_init": cfg.log_std_init,
    }
    model = PPO(
        ModulatedPolicy if cfg.told else "MlpPolicy",
        env,
        learning_rate=cfg.lr,
        n_steps=n_steps,
        batch_size=batch // max(divisors),
        n_epochs=cfg.epochs,
        gamma=cfg.gamma,
        gae_lambda=cfg.gae_lambda,
        ent_coef=cfg.entropy,
        policy_kwargs={**network, **({"told": env.told.shape[1]} if cfg.told else {})},
        seed=cfg.seed,
        device="cpu",
    )
    if like is not None:
        # A deep copy: torch's optimizers modify the moments that they are given in place.
        model.set_parameters(copy.deepcopy(like.get_parameters()), device="cpu")  # type: ignore[arg-type]
    return model


def weights_of(model: PPO) -> dict[str, Tensor]:
    """All tensors of a model: the policy's by name, Adam's under `optimizer/`."""
    adam: dict[int, dict[str, Tensor]] = model.policy.optimizer.state_dict()["state"]
    moments = {f"{OPTIMIZER}{i}/{k}": x for i, each in adam.items() for k, x in each.items()}
    return {k: x.detach().clone() for k, x in {**model.policy.state_dict(), **moments}.items()}


def with_weights(model: PPO, tensors: dict[str, Tensor], optimizer: bool = False) -> PPO:
    """Load the weights of another model of the same architecture.

    Args:
        optimizer: load the optimizer state too; otherwise it is reset.
    Raises:
        UsageError: names, shapes or types differ.
    """
    _check(model, tensors)
    weights = {k: x for k, x in tensors.items() if not k.startswith(OPTIMIZER)}
    model.policy.load_state_dict(weights)
    if optimizer:
        state = model.policy.optimizer.state_dict()
        state["state"] = {}
        for name, x in tensors.items():
            if name.startswith(OPTIMIZER):
                index, _, key = name.removeprefix(OPTIMIZER).partition("/")
                state["state"].setdefault(int(index), {})[key] = x.clone()
        model.policy.optimizer.load_state_dict(state)
    return model


def _check(model: PPO, tensors: dict[str, Tensor]) -> None:
    """Check names, shapes and types: torch would read moments of a wrong shape out of bounds."""
    wanted = {k: x.shape for k, x in model.policy.state_dict().items()}
    learned = any(k.startswith(OPTIMIZER) for k in tensors)
    for i, weight in enumerate(model.policy.parameters() if learned else ()):
        shapes = {"step": torch.Size(), "exp_avg": weight.shape, "exp_avg_sq": weight.shape}
        wanted |= {f"{OPTIMIZER}{i}/{k}": shape for k, shape in shapes.items()}
    found = {k: x.shape for k, x in tensors.items() if x.dtype == torch.float32}
    if found != wanted or len(found) != len(tensors):
        raise UsageError(
            "weights of a baseline belong to another network: delete the folder baselines/ next to "
            "the run to train them again."
        )


@torch.no_grad()
def scale_head(model: PPO, factor: float) -> None:
    """Scale the action logits, or the means and the change of the log standard deviation.

    With a factor near 0, the policy is nearly uniform, or a centered normal with the initial
    standard deviation, on the learned features: a saturated policy explores again.
    """
    policy: Any = model.policy
    for weight in policy.action_net.parameters():
        weight.mul_(factor)
    if hasattr(policy, "log_std"):
        policy.log_std.lerp_(torch.full_like(policy.log_std, policy.log_std_init), 1 - factor)
