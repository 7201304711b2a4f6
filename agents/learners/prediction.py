"""Helpers for `predict`, which maps NumPy observations to actions as in Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from metarl.agents.networks.distributions import Distribution
from metarl.agents.networks.policy import observation_shape
from metarl.envs.core.errors import UsageError

Array = np.ndarray[Any, Any]
RecurrentState = tuple[Array, ...]  # (M, ...) each, for M trials


def as_batch(space: Space[Any], obs: Any, tasks: int, device: torch.device) -> tuple[Tensor, bool]:
    """Observations as a batch (N, M, *obs), and whether a single one was given.

    Args:
        obs: one observation, or a batch with M rows of the first task, M of the second, ...
        tasks: number N of tasks that the agent is adapted to; 1 before adaptation.

    Raises:
        UsageError: invalid shape or dtype, or a number of rows not divisible by N.
    """
    given, shape = np.asarray(obs), observation_shape(space)
    single = given.shape == shape
    if not single and given.shape[1:] != shape:
        raise UsageError(
            f"observations of shape {given.shape}: give one of shape {shape}, or a batch "
            f"{('M', *shape)}."
        )
    if space.dtype == np.uint8 and given.dtype != np.uint8:
        raise UsageError(
            f"observations of {given.dtype}: the agent sees bytes, which it scales itself; give "
            "uint8."
        )
    rows = 1 if single else len(given)
    if rows == 0 or rows % tasks:
        raise UsageError(
            f"{rows} observations for an agent adapted to {tasks} tasks: give as many of each "
            "task, those of one task side by side, or adapt to one task."
        )
    number = torch.uint8 if given.dtype == np.uint8 == space.dtype else torch.float32
    x = torch.as_tensor(np.ascontiguousarray(given), device=device).to(number)
    return x.reshape(tasks, rows // tasks, *shape), single


def chosen(dist: Distribution, deterministic: bool) -> Tensor:
    """The most likely actions, or actions sampled with torch's global generator."""
    return dist.mode() if deterministic else dist.sample(dist.noise())


def as_actions(space: Space[Any], act: Tensor, single: bool) -> Array:
    """Actions (N, M, ...) as an array (N * M, ...) of the space's dtype, clipped to a Box."""
    rows = act.flatten(0, 1).cpu().numpy()
    if isinstance(space, Box):
        rows = np.clip(rows, space.low, space.high)
    rows = rows.astype(space.dtype, copy=False)
    return np.asarray(rows[0]) if single else rows


def as_state(x: Sequence[Tensor]) -> RecurrentState:
    """Tensors (N, M, ...) as arrays (N * M, ...)."""
    return tuple(part.flatten(0, 1).cpu().numpy() for part in x)


def continued(
    state: Any, episode_start: Any, reward: Any, like: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Hidden state, previous action and reward of continued trials, and their episode starts.

    Args:
        state: result of `as_state` for the hidden state and previous action.
        like: hidden state, previous action and reward of the same number of new trials.

    Raises:
        UsageError: the reward is missing, or a shape is invalid.
    """
    if reward is None:
        raise UsageError(
            "predict with a state and no reward: a memory reads what its last action brought; "
            "give reward=, one number for each observation."
        )
    *recurrent, rew = like
    starts = False if episode_start is None else episode_start
    parts = [*from_state(state, recurrent), each_row("reward", reward, rew)]
    return parts, each_row("episode_start", starts, rew)


def from_state(state: Any, like: Sequence[Tensor]) -> list[Tensor]:
    """Convert a result of `as_state` to tensors with the shapes and dtypes of `like`.

    Raises:
        UsageError: it is not a state, or has another number of trials.
    """
    want = [(x.shape[0] * x.shape[1], *x.shape[2:]) for x in like]
    have = [np.shape(part) for part in state] if isinstance(state, tuple | list) else None
    if have != want:
        raise UsageError(
            f"a recurrent state of shapes {have}: give the one that predict returned, {want} for "
            "as many observations; or None, to begin new trials."
        )
    return [
        torch.as_tensor(np.array(part)).to(x).view(x.shape)
        for part, x in zip(state, like, strict=True)
    ]


def each_row(name: str, value: Any, like: Tensor) -> Tensor:
    """One number per row, (N, M); a single number is used for all rows.

    Raises:
        UsageError: the number of values doesn't match.
    """
    given = np.asarray(value, dtype=np.float32)
    if given.shape not in ((), (1,), (like.numel(),)):
        raise UsageError(
            f"{name} of shape {given.shape} for {like.numel()} observations: give one for each."
        )
    return torch.as_tensor(np.array(given)).to(like).expand(like.numel()).view(like.shape)
