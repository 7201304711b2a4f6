"""Interoperability with Stable-Baselines3 (SB3), which is imported lazily."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch

from metarl.agents.learners.gradient_agent import Agent
from metarl.agents.learners.recurrent_agent import AnyAgent, MemoryAgent
from metarl.agents.networks.policy import MLP, Params
from metarl.envs import Family, UsageError
from metarl.sb3.weights import to_sb3 as to_sb3_weights
from metarl.system.files import write_atomically

if TYPE_CHECKING:
    from stable_baselines3 import PPO

    from metarl.envs.adapters.sb3_vec_env import VecView


def to_vec_env(family: Family, task: Any, copies: int = 1, unit_actions: bool = False) -> VecView:
    """Tasks as a vectorized environment of Stable-Baselines3, stepped as one batch.

    Args:
        task: N tasks from `make_task` or `sample_tasks`.
        copies: environments of each task, N * copies in all.
        unit_actions: scale Box actions to [-1, 1]^A, which suits SB3's defaults better; policies
            exported by metarl act in the original box.
    """
    from metarl.envs.adapters.sb3_vec_env import VecView

    return VecView(family, task, copies, unit_actions)


def to_sb3(agent: AnyAgent, family: Family, gamma: float = 0.99, gae_lambda: float = 0.95) -> PPO:
    """Convert an agent to SB3's PPO with an equivalent policy, ready to learn or to save.

    The value network is newly initialized: the agent's baseline is fitted to the episodes of each
    task and has no weights to transfer.

    Raises:
        UsageError: SB3's `MlpPolicy` can't represent the agent.
    """
    from stable_baselines3 import PPO

    policy, params = _perceptron(agent)
    with torch.random.fork_rng(devices=[]):  # a fixed seed for the new value network
        torch.manual_seed(0)
        hidden = [layer.out_features for layer in policy.layers][:-1]
        model = PPO(
            "MlpPolicy",
            _Spaces(family),
            gamma=gamma,
            gae_lambda=gae_lambda,
            policy_kwargs={"net_arch": {"pi": hidden, "vf": hidden}},
            device="cpu",
        )
    weights = to_sb3_weights(policy, params, family.action_space, pixel(family))
    model.policy.load_state_dict({**model.policy.state_dict(), **weights})
    return model


def pixel(family: Family) -> float:
    """Scale of observations that SB3 doesn't apply: it divides only images by 255."""
    from stable_baselines3.common.preprocessing import is_image_space

    space = family.observation_space
    return 1 / 255 if space.dtype == np.uint8 and not is_image_space(space) else 1.0


def save_sb3(model: PPO, path: Path) -> None:
    """Write SB3's zip atomically.

    Raises:
        UsageError: it can't be written there.
    """
    content = io.BytesIO()
    model.save(content)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise UsageError(
            f"--out {path}: {error.strerror}; give a file in a writable folder."
        ) from error


def _perceptron(agent: AnyAgent) -> tuple[MLP, Params]:
    """The policy and its weights without a task axis."""
    if isinstance(agent, MemoryAgent):
        raise UsageError(
            "an agent with --memory adapts its hidden state, which SB3's MlpPolicy doesn't have: "
            "export an agent that adapts by gradient, from a run without --memory."
        )
    policy = agent.policy
    if not isinstance(policy, MLP):
        raise UsageError(
            "SB3's CnnPolicy has other layers than this CNN, with ReLU, and can't act as it does: "
            "export the agent of a run with --network mlp."
        )
    return policy, {k: _one(agent, k, p) for k, p in agent.params.items()}


def _one(agent: Agent, name: str, weight: torch.Tensor) -> torch.Tensor:
    if weight.dim() == agent.policy.get_parameter(name).dim():
        return weight
    if len(weight) > 1:
        raise UsageError(
            f"an agent adapted to {len(weight)} tasks is {len(weight)} policies: adapt it to one "
            "task."
        )
    return weight[0]


class _Spaces(gymnasium.Env[Any, Any]):
    """An environment with only the spaces, which SB3 needs to build a policy."""

    def __init__(self, family: Family) -> None:
        self.observation_space, self.action_space = family.observation_space, family.action_space
