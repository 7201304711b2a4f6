"""A PPO of Stable-Baselines3 as baselines use it: its settings, environments and weights."""

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
    """What PPO shares with the agent that it is compared with, and settings that are its own.

    Attributes:
        minibatches: at most, all of one size.
        entropy: weight of the entropy bonus, per nat.
        log_std_init: first log standard deviation, in half action boxes.
        told: the policy is told the task, and modulated by it.
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
    """`copies` environments of each task as PPO sees them: flat, in unit actions."""
    from metarl.baselines.told_the_task import FlatView, task_numbers

    env = to_vec_env(family, task, copies, unit_actions=True)
    if not cfg.told:
        return FlatView(env)
    return FlatView(env, task_numbers(parameters(family), env.task))


def new_ppo(cfg: PPOSettings, env: Any, n_steps: int, like: PPO | None = None) -> PPO:
    """A model for `n_steps` steps of each environment before an update of several epochs.

    Args:
        env: as `ppo_env` makes it.
        like: goes on with the weights and the optimizer of this model.
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
        # A copy, since torch's optimizers go on with the very moments that they are given.
        model.set_parameters(copy.deepcopy(like.get_parameters()), device="cpu")  # type: ignore[arg-type]
    return model


def weights_of(model: PPO) -> dict[str, Tensor]:
    """All tensors of a model: the policy's by its own names, Adam's under `optimizer/`."""
    adam: dict[int, dict[str, Tensor]] = model.policy.optimizer.state_dict()["state"]
    moments = {f"{OPTIMIZER}{i}/{k}": x for i, each in adam.items() for k, x in each.items()}
    return {k: x.detach().clone() for k, x in {**model.policy.state_dict(), **moments}.items()}


def with_weights(model: PPO, tensors: dict[str, Tensor], optimizer: bool = False) -> PPO:
    """The model with the weights of another of its kind.

    Args:
        optimizer: with its optimizer too; else that begins anew.
    Raises:
        UsageError: other names, shapes or types.
    """
    _check(model, tensors)
    own = {k: x for k, x in tensors.items() if not k.startswith(OPTIMIZER)}
    model.policy.load_state_dict(own)
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
    """Before torch sees them: moments of another shape would be read past their end."""
    wanted = {k: x.shape for k, x in model.policy.state_dict().items()}
    learned = any(k.startswith(OPTIMIZER) for k in tensors)
    for i, weight in enumerate(model.policy.parameters() if learned else ()):
        shapes = {"step": torch.Size(), "exp_avg": weight.shape, "exp_avg_sq": weight.shape}
        wanted |= {f"{OPTIMIZER}{i}/{k}": shape for k, shape in shapes.items()}
    found = {k: x.shape for k, x in tensors.items() if x.dtype == torch.float32}
    if found != wanted or len(found) != len(tensors):
        raise UsageError(
            "weights of a baseline are of another network: delete the folder baselines/ next to "
            "the run, and they are trained again."
        )


@torch.no_grad()
def scale_head(model: PPO, factor: float) -> None:
    """Multiply preferences between actions, or means and what noise has lost, by `factor`.

    Near 0 this is the uniform policy, or a centered normal with the first standard deviation, on
    the features that were learned: a saturated policy explores again.
    """
    policy: Any = model.policy
    for weight in policy.action_net.parameters():
        weight.mul_(factor)
    if hasattr(policy, "log_std"):
        policy.log_std.lerp_(torch.full_like(policy.log_std, policy.log_std_init), 1 - factor)
