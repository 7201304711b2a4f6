"""What metarl and Stable-Baselines3 give each other; SB3 is imported when it is first needed."""

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
    """Tasks as a vectorised environment of Stable-Baselines3, all stepped in one program.

    Args:
        task: N tasks, as `make_task` or `sample_tasks` give them.
        copies: environments of each task, side by side: N * copies in all.
        unit_actions: take boxes of actions in units of their half, [-1, 1]^A, which suits SB3's
            settings better; policies exported by metarl act in the box itself.
    """
    from metarl.envs.adapters.sb3_vec_env import VecView

    return VecView(family, task, copies, unit_actions)


def to_sb3(agent: AnyAgent, family: Family, gamma: float = 0.99, gae_lambda: float = 0.95) -> PPO:
    """A PPO of Stable-Baselines3 whose policy acts as the agent does, ready to learn or to save.

    Its value network is new: the agent's baseline is fitted to each task's own episodes and has no
    weights that could go there.

    Raises:
        UsageError: an agent that SB3's `MlpPolicy` can't hold.
    """
    from stable_baselines3 import PPO

    policy, params = _perceptron(agent)
    with torch.random.fork_rng(devices=[]):  # the new value network's weights
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
    """What observations are multiplied by here and not in SB3, which scales images alone."""
    from stable_baselines3.common.preprocessing import is_image_space

    seen = family.observation_space
    return 1 / 255 if seen.dtype == np.uint8 and not is_image_space(seen) else 1.0


def save_sb3(model: PPO, path: Path) -> None:
    """Write SB3's zip, the old file or the new one.

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
            "an agent with a memory adapts in its state, which SB3's MlpPolicy doesn't have: "
            "export one that adapts by gradient, of a run without --memory."
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
            f"an agent adapted to {len(weight)} tasks is as many policies: adapt it to one task."
        )
    return weight[0]


class _Spaces(gymnasium.Env[Any, Any]):
    """What SB3 must know of an environment to make a policy."""

    def __init__(self, family: Family) -> None:
        self.observation_space, self.action_space = family.observation_space, family.action_space
