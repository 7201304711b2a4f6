"""Converts Gymnasium spaces to and from the few forms that policies support."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.spaces.utils import flatten, flatten_space

from metarl.envs.core.errors import UsageError
from metarl.envs.gym.env_contract import check_observation

MAX_FLAT = 4096  # size of a flattened observation; larger ones contain an image
Convert = Callable[[Any], Any]
Image = Literal["auto", "channels-first", "channels-last", "vector"]


class Encoding(NamedTuple):
    """The agent's spaces, and conversions between them and the environment's.

    Attributes:
        observe: converts an observation of the environment to an array of `observation_space`;
            raises Malformed if it isn't in the environment's space.
        act: converts an array of `action_space` to an action of the environment.
        about: readable descriptions of how the two spaces are interpreted.
        form: what all variants must share of observations and actions: everything except bounds.
    """

    observation_space: Box
    action_space: Box | Discrete | MultiDiscrete
    observe: Convert
    act: Convert
    about: tuple[str, str]
    form: tuple[str, str]


def encode(
    observation_space: Space[Any], action_space: Space[Any], image: Image = "auto"
) -> Encoding:
    """Encode images as (C, H, W), other observations as one flat Box, Box actions as [-1, 1]^A.

    Box, Discrete, MultiDiscrete, MultiBinary, Tuple and Dict observations are flattened, discrete
    ones to one-hot vectors. Unbounded actions are not scaled.

    Args:
        image: the channel order of images, or "vector" to disable images.

    Raises:
        UsageError: no policy supports the space.
    """
    encoded_obs, convert, read = _observation(observation_space, image)
    encoded_act, act, acted = _action(action_space)
    form = _form(observation_space)

    def observe(obs: Any) -> Any:
        check_observation(observation_space, obs)
        return convert(obs)

    return Encoding(
        encoded_obs,
        encoded_act,
        observe,
        act,
        (f"{form} read as {read}", acted),
        (f"{form} read as {read}", _form(action_space)),
    )


def _observation(space: Space[Any], image: Image) -> tuple[Box, Convert, str]:
    if isinstance(space, Box) and (axes := _picture_axes(space, image)):
        low, high = (np.transpose(x, axes) for x in (space.low, space.high))
        shape = low.shape if low.ndim == 3 else (-1, *low.shape[-2:])
        dtype: Any = np.uint8 if space.dtype == np.uint8 else np.float32
        low, high = (x.reshape(shape).astype(dtype) for x in (low, high))
        encoded = Box(low, high, dtype=dtype)
        size = encoded.shape
        where = "last" if axes[-1] != len(axes) - 1 else "first"
        read = f"an image of {size[0]} channels, {size[1]} x {size[2]}"
        read += f", channels {where}" if len(axes) > 2 else ""
        return encoded, lambda x: np.transpose(x, axes).reshape(size), read
    flat = flatten_space(space) if _is_known(space) else None
    most = np.inf if image == "vector" else MAX_FLAT
    if not isinstance(flat, Box | MultiBinary) or not 0 < flat.shape[0] <= most:
        raise UsageError(
            f"observation space {space}: give Box, Discrete, MultiDiscrete, MultiBinary or a Dict "
            f"or Tuple of them, at most {MAX_FLAT} numbers unless it is an image: reduce it with "
            "gymnasium.wrappers.TransformObservation or FilterObservation."
        )
    if isinstance(flat, MultiBinary):
        flat = Box(0.0, 1.0, flat.shape)
    low, high = (x.astype(np.float32) for x in (flat.low, flat.high))
    read = f"a vector of {len(low)} number{'s' * (len(low) > 1)}"
    return Box(low, high), lambda x: flatten(space, x), read


def _is_known(space: Space[Any]) -> bool:
    if isinstance(space, Dict | Tuple):
        return all(map(_is_known, space.values() if isinstance(space, Dict) else space))
    return isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary)


def _form(space: Any) -> str:
    """Description of a space without bounds and start values."""
    if isinstance(space, Dict):
        return f"Dict({', '.join(f'{k}: {_form(part)}' for k, part in space.items())})"
    if isinstance(space, Tuple):
        return f"Tuple({', '.join(map(_form, space))})"
    if isinstance(space, Discrete):
        return f"Discrete({space.n})"
    if isinstance(space, MultiDiscrete):
        return f"MultiDiscrete({space.nvec.tolist()})"
    if isinstance(space, MultiBinary):
        return f"MultiBinary{space.shape}"
    return f"Box{space.shape}{' uint8' if space.dtype == np.uint8 else ''}"


def _picture_axes(space: Box, image: Image) -> tuple[int, ...] | None:
    """The order of axes that puts rows and columns last; None if the space is not an image."""
    shape = space.shape
    if image == "vector":
        return None
    if image != "auto" and len(shape) not in (2, 3, 4):
        raise UsageError(
            f"--image {image}: the observation is {_form(space)}, which is not an image: give "
            "--image auto, or wrap the environment."
        )
    if len(shape) == 2:
        is_picture = image != "auto" or (space.dtype == np.uint8 and min(shape) >= 8)
        return (0, 1) if is_picture else None
    if len(shape) not in (3, 4):
        return None
    last = _channels_last(*shape[-3:]) if image == "auto" else image == "channels-last"
    rows_and_columns = shape[-3:-1] if last else shape[-2:]
    if image == "auto" and min(rows_and_columns) < (5 if len(shape) == 3 else 8):
        return None
    frames = len(shape) - 3  # leading axis of stacked frames
    axes = (2, 0, 1) if last else (0, 1, 2)
    return (*range(frames), *(frames + axis for axis in axes))


def _channels_last(a: int, b: int, c: int) -> bool:
    """Whether (a, b, c) are more likely (rows, columns, channels) than (channels, rows, columns).

    Images are square or nearly so and have few channels. If this is inconclusive, channels are
    last, as is common in Gymnasium.
    """
    if (a == b) != (b == c):
        return a == b
    if (a <= 4) != (c <= 4):
        return c <= 4
    stretched_if_last, stretched_if_first = max(a, b) / min(a, b), max(b, c) / min(b, c)
    return stretched_if_last <= 1.5 * stretched_if_first


def _action(space: Space[Any]) -> tuple[Box | Discrete | MultiDiscrete, Convert, str]:
    if isinstance(space, Discrete):
        start = space.start
        return Discrete(int(space.n)), lambda a: start + a, str(space)
    if isinstance(space, MultiDiscrete):
        starts, shape, kind = space.start.flatten(), space.shape, space.dtype
        return (
            MultiDiscrete(space.nvec.flatten()),
            lambda a: (a + starts).astype(kind).reshape(shape),
            str(space),
        )
    if isinstance(space, MultiBinary):
        shape = space.shape
        return (
            MultiDiscrete(np.full(int(np.prod(shape)), 2)),
            lambda a: a.astype(np.int8).reshape(shape),
            str(space),
        )
    if isinstance(space, Box) and space.shape and np.issubdtype(space.dtype, np.floating):
        act, scaled = _box_action(space)
        return Box(-1.0, 1.0, (int(np.prod(space.shape)),)), act, f"{_form(space)} {scaled}"
    raise UsageError(
        f"action space {space}: give a Box of floats, Discrete, MultiDiscrete or MultiBinary: "
        "convert it with gymnasium.wrappers.TransformAction, for example to one Box for all parts."
    )


def _box_action(space: Box) -> tuple[Convert, str]:
    bounded = space.bounded_below.flatten() & space.bounded_above.flatten()
    low = np.where(bounded, space.low.flatten(), -1.0).astype(np.float64)
    high = np.where(bounded, space.high.flatten(), 1.0).astype(np.float64)
    outer_low, outer_high = space.low.copy(), space.high.copy()
    shape, kind = space.shape, space.dtype

    def act(a: Any) -> Any:
        scaled = low + (a.astype(np.float64) + 1) / 2 * (high - low)
        return np.clip(scaled.reshape(shape), outer_low, outer_high).astype(kind)

    box = f"[{low.min():g}, {high.max():g}]" if bounded.any() else ""
    part = "" if bounded.all() else ", unbounded components unscaled"
    return act, f"scaled from [-1, 1] to {box}{part}" if box else "unscaled"
