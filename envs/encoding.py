"""Gymnasium's spaces in the few forms that policies know, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.spaces.utils import flatten, flatten_space

from envs.errors import UsageError

MAX_FLAT = 4096  # numbers in a flattened observation; more is a picture inside a Dict
Convert = Callable[[Any], Any]


class Encoding(NamedTuple):
    """What an agent sees and does, and how that becomes what the environment knows."""

    observation_space: Box
    action_space: Box | Discrete | MultiDiscrete
    observe: Convert  # environment's observation -> array of `observation_space`
    act: Convert  # array of `action_space` -> environment's action


def encode(observation_space: Space[Any], action_space: Space[Any]) -> Encoding:
    """Pictures become (C, H, W), other observations one flat Box; boxes of actions [-1, 1]^A.

    Box, Discrete, MultiDiscrete, MultiBinary, Tuple and Dict observations are flattened, discrete
    ones to one-hot vectors. An unbounded action is taken in the environment's own unit.

    Raises:
        UsageError: a space that no policy here can take.
    """
    seen, observe = _observation(observation_space)
    done, act = _action(action_space)
    return Encoding(seen, done, observe, act)


def _observation(space: Space[Any]) -> tuple[Box, Convert]:
    if isinstance(space, Box) and (axes := _picture_axes(space)):
        low, high = (np.transpose(x, axes) for x in (space.low, space.high))
        shape = low.shape if low.ndim == 3 else (-1, *low.shape[-2:])
        dtype: Any = np.uint8 if space.dtype == np.uint8 else np.float32
        low, high = (x.reshape(shape).astype(dtype) for x in (low, high))
        seen = Box(low, high, dtype=dtype)
        size = seen.shape
        return seen, lambda x: np.transpose(x, axes).reshape(size)
    flat = flatten_space(space) if _is_known(space) else None
    if not isinstance(flat, Box | MultiBinary) or not 0 < flat.shape[0] <= MAX_FLAT:
        raise UsageError(
            f"observation space {space}: give Box, Discrete, MultiDiscrete, MultiBinary or a Dict "
            f"or Tuple of them, at most {MAX_FLAT} numbers unless it is a picture (wrap the "
            "environment to choose what the agent sees)."
        )
    if isinstance(flat, MultiBinary):
        flat = Box(0.0, 1.0, flat.shape)
    low, high = (x.astype(np.float32) for x in (flat.low, flat.high))
    return Box(low, high), lambda x: flatten(space, x)


def _is_known(space: Space[Any]) -> bool:
    if isinstance(space, Dict | Tuple):
        return all(map(_is_known, space.values() if isinstance(space, Dict) else space))
    return isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary)


def _picture_axes(space: Box) -> tuple[int, ...] | None:
    """The order of axes that puts rows and columns last; None if it is no picture."""
    shape = space.shape
    if len(shape) == 2 and space.dtype == np.uint8 and min(shape) >= 8:
        return (0, 1)
    if len(shape) == 3 and shape[-1] <= 4 and min(shape[:2]) >= 5:
        return (2, 0, 1)
    if len(shape) == 3 and min(shape[1:]) >= 5:
        return (0, 1, 2)
    if len(shape) == 4 and shape[-1] <= 4 and min(shape[1:3]) >= 8:  # frames of colours
        return (0, 3, 1, 2)
    return None


def _action(space: Space[Any]) -> tuple[Box | Discrete | MultiDiscrete, Convert]:
    if isinstance(space, Discrete):
        start = space.start
        return Discrete(int(space.n)), lambda a: start + a
    if isinstance(space, MultiDiscrete):
        starts, shape, kind = space.start.flatten(), space.shape, space.dtype
        return (
            MultiDiscrete(space.nvec.flatten()),
            lambda a: (a + starts).astype(kind).reshape(shape),
        )
    if isinstance(space, MultiBinary):
        shape = space.shape
        return (
            MultiDiscrete(np.full(int(np.prod(shape)), 2)),
            lambda a: a.astype(np.int8).reshape(shape),
        )
    if isinstance(space, Box) and space.shape and np.issubdtype(space.dtype, np.floating):
        return Box(-1.0, 1.0, (int(np.prod(space.shape)),)), _box_action(space)
    raise UsageError(
        f"action space {space}: give Box of floats, Discrete, MultiDiscrete or MultiBinary "
        "(wrap the environment to change it)."
    )


def _box_action(space: Box) -> Convert:
    bounded = space.bounded_below.flatten() & space.bounded_above.flatten()
    low = np.where(bounded, space.low.flatten(), -1.0).astype(np.float64)
    high = np.where(bounded, space.high.flatten(), 1.0).astype(np.float64)
    outer_low, outer_high = space.low, space.high

    def act(a: Any) -> Any:
        scaled = low + (a.astype(np.float64) + 1) / 2 * (high - low)
        return np.clip(scaled.reshape(space.shape), outer_low, outer_high).astype(space.dtype)

    return act
