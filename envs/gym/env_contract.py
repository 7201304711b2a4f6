"""What reset and step must give, checked at each of them: nothing is cast, spread or guessed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

Info = dict[str, Any]
STEP_GIVES = "step must return (observation, reward, terminated, truncated, info)"


class Malformed(Exception):
    """An environment gave what Gymnasium's interface doesn't allow; one line that names it."""


def read_reset(result: Any) -> tuple[Any, Info]:
    """Observation and info of `reset`.

    Raises:
        Malformed: it is something else.
    """
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise Malformed(
            f"reset must return (observation, info), info a dict; it gave {_show(result)}"
        )
    return result


def read_step(result: Any) -> tuple[Any, float, bool, bool, Info]:
    """Observation, reward, terminated, truncated and info of `step`, as plain numbers.

    Rewards and flags may be arrays of one element, 0-d arrays, integers or booleans.

    Raises:
        Malformed: one of them is something else.
    """
    if not (isinstance(result, tuple | list) and len(result) == 5):
        raise Malformed(f"{STEP_GIVES}; it gave {_show(result)}")
    obs, rew, terminated, truncated, info = result
    if not isinstance(info, dict):
        raise Malformed(f"step gave {_show(info)} as info: give a dict")
    return (
        obs,
        _number(rew, "reward"),
        _flag(terminated, "terminated"),
        _flag(truncated, "truncated"),
        info,
    )


def success_of(info: Info) -> float | None:
    """What `info` says of success, 0 to 1, under `success` or `is_success`; None if nothing.

    Raises:
        Malformed: it is no number from 0 to 1.
    """
    for key in ("success", "is_success"):
        if key in info:
            told = _number(info[key], f"info['{key}']")
            if not 0 <= told <= 1:
                raise Malformed(f"step gave {told:g} as info['{key}']: give a number from 0 to 1")
            return told
    return None


def check_observation(space: Space[Any], obs: Any, name: str = "observation") -> None:
    """Raise Malformed unless an observation has the form of its space.

    Bounds of a Box aren't checked: many environments step over them a little, and no policy reads
    them. What doesn't fit the type of the space is: it would be cut off.
    """
    if isinstance(space, Dict):
        _check_keys(space, obs, name)
        for key, part in space.items():
            check_observation(part, obs[key], f"{name}['{key}']")
    elif isinstance(space, Tuple):
        if not (isinstance(obs, tuple | list) and len(obs) == len(space)):
            raise Malformed(f"{name} is {_show(obs)}: its space is a tuple of {len(space)}")
        for i, part in enumerate(space):
            check_observation(part, obs[i], f"{name}[{i}]")
    else:
        _check_numbers(space, obs, name)


def _check_keys(space: Dict, obs: Any, name: str) -> None:
    if not isinstance(obs, Mapping):
        raise Malformed(f"{name} is {_show(obs)}: its space is a Dict of {', '.join(space)}")
    for what, keys in (
        ("lacks", [k for k in space if k not in obs]),
        ("has", [k for k in obs if k not in space.spaces]),
    ):
        if keys:
            raise Malformed(
                f"{name} {what} {', '.join(map(repr, keys))}: its space is a Dict of "
                + ", ".join(map(repr, space))
            )


def _check_numbers(space: Any, obs: Any, name: str) -> None:
    """An array, or a number, of a Box, Discrete, MultiDiscrete or MultiBinary."""
    x = np.asarray(obs)
    if x.shape != space.shape and not (isinstance(space, Discrete) and x.size == 1):
        raise Malformed(f"{name} has shape {x.shape}, its space {space.shape}")
    if x.dtype.kind not in "biuf":
        raise Malformed(f"{name} is {_show(obs)}, not numbers")
    low, high = _limits(space)
    if low is None or (isinstance(space, Box) and x.dtype == space.dtype):
        return
    if (x < low).any() or (x > high).any() or (x != np.round(x)).any():
        raise Malformed(f"{name} has values that aren't in its space {_name(space)}: {_show(obs)}")


def _limits(space: Any) -> tuple[Any, Any]:
    """Lowest and highest whole number that a space can hold; None where it holds floats."""
    if isinstance(space, Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    if isinstance(space, MultiBinary):
        return 0, 1
    if space.dtype.kind in "iu":
        return np.iinfo(space.dtype).min, np.iinfo(space.dtype).max
    return None, None


def _name(space: Any) -> str:
    if isinstance(space, Discrete | MultiDiscrete | MultiBinary):
        return str(space)
    return f"Box{space.shape} {space.dtype}"


def _number(value: Any, what: str) -> float:
    if isinstance(value, float | int):
        return float(value)
    x = np.asarray(value)
    if x.size == 1 and x.dtype.kind in "biuf":
        return float(x.item())
    raise Malformed(f"step gave {_show(value)} as {what}: give one number")


def _flag(value: Any, what: str) -> bool:
    if isinstance(value, bool):
        return value
    x = np.asarray(value)
    if x.size == 1 and x.dtype.kind in "biu" and x.item() in (0, 1):
        return bool(x.item())
    raise Malformed(f"step gave {_show(value)} as {what}: give True or False")


def _show(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, np.ndarray):
        small = " ".join(np.array2string(value, precision=4).split())
        return small if value.size <= 8 else f"an array of shape {value.shape}, {value.dtype}"
    if isinstance(value, tuple | list):
        kinds = ", ".join(type(x).__name__ for x in value[:8])
        return f"a {type(value).__name__} of {len(value)} ({kinds})"
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
