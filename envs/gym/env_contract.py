"""Strict checks of the results of reset and step: no casting, broadcasting or guessing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

Info = dict[str, Any]
STEP_GIVES = "step must return (observation, reward, terminated, truncated, info)"


class Malformed(Exception):
    """An environment violated Gymnasium's interface; the message is one line."""


def read_reset(result: Any) -> tuple[Any, Info]:
    """Observation and info of `reset`.

    Raises:
        Malformed: the result has another form.
    """
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise Malformed(
            f"reset must return (observation, info) with a dict info; it returned {_show(result)}"
        )
    return result


def read_step(result: Any) -> tuple[Any, float, bool, bool, Info]:
    """Observation, reward, terminated, truncated and info of `step`, with Python scalars.

    Rewards and flags may be arrays with one element, 0-d arrays, integers or booleans.

    Raises:
        Malformed: the result has another form.
    """
    if not (isinstance(result, tuple | list) and len(result) == 5):
        raise Malformed(f"{STEP_GIVES}; it returned {_show(result)}")
    obs, rew, terminated, truncated, info = result
    if not isinstance(info, dict):
        raise Malformed(f"step returned {_show(info)} as info: return a dict")
    return (
        obs,
        _number(rew, "reward"),
        _flag(terminated, "terminated"),
        _flag(truncated, "truncated"),
        info,
    )


def success_of(info: Info) -> float | None:
    """`success` or `is_success` in `info`, from 0 to 1; None if there is neither.

    Raises:
        Malformed: it is not a number from 0 to 1.
    """
    for key in ("success", "is_success"):
        if key in info:
            value = _number(info[key], f"info['{key}']")
            if not 0 <= value <= 1:
                raise Malformed(
                    f"step returned {value:g} as info['{key}']: return a number from 0 to 1"
                )
            return value
    return None


def check_observation(space: Space[Any], obs: Any, name: str = "observation") -> None:
    """Raise Malformed unless an observation matches its space.

    Bounds of float Boxes aren't checked, since many environments exceed them slightly and policies
    don't use them. Values that don't fit an integer dtype are rejected, since they would overflow.
    """
    if isinstance(space, Dict):
        _check_keys(space, obs, name)
        for key, part in space.items():
            check_observation(part, obs[key], f"{name}['{key}']")
    elif isinstance(space, Tuple):
        if not (isinstance(obs, tuple | list) and len(obs) == len(space)):
            raise Malformed(f"{name} is {_show(obs)}, but its space is a Tuple of {len(space)}")
        for i, part in enumerate(space):
            check_observation(part, obs[i], f"{name}[{i}]")
    else:
        _check_numbers(space, obs, name)


def _check_keys(space: Dict, obs: Any, name: str) -> None:
    if not isinstance(obs, Mapping):
        raise Malformed(f"{name} is {_show(obs)}, but its space is a Dict of {', '.join(space)}")
    for what, keys in (
        ("lacks", [k for k in space if k not in obs]),
        ("has", [k for k in obs if k not in space.spaces]),
    ):
        if keys:
            raise Malformed(
                f"{name} {what} {', '.join(map(repr, keys))}, but its space is a Dict of "
                + ", ".join(map(repr, space))
            )


def _check_numbers(space: Any, obs: Any, name: str) -> None:
    """Check an observation of a Box, Discrete, MultiDiscrete or MultiBinary."""
    x = np.asarray(obs)
    if x.shape != space.shape and not (isinstance(space, Discrete) and x.size == 1):
        raise Malformed(f"{name} has shape {x.shape}, but its space {space.shape}")
    if x.dtype.kind not in "biuf":
        raise Malformed(f"{name} is {_show(obs)}, not numbers")
    low, high = _limits(space)
    if low is None or (isinstance(space, Box) and x.dtype == space.dtype):
        return
    if (x < low).any() or (x > high).any() or (x != np.round(x)).any():
        raise Malformed(f"{name} has values outside its space {_name(space)}: {_show(obs)}")


def _limits(space: Any) -> tuple[Any, Any]:
    """Lowest and highest integers of a space; (None, None) for floats."""
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
    raise Malformed(f"step returned {_show(value)} as {what}: return one number")


def _flag(value: Any, what: str) -> bool:
    if isinstance(value, bool):
        return value
    x = np.asarray(value)
    if x.size == 1 and x.dtype.kind in "biu" and x.item() in (0, 1):
        return bool(x.item())
    raise Malformed(f"step returned {_show(value)} as {what}: return True or False")


def _show(value: Any) -> str:
    """A short description of a value."""
    if isinstance(value, np.ndarray):
        small = " ".join(np.array2string(value, precision=4).split())
        return small if value.size <= 8 else f"an array of shape {value.shape}, {value.dtype}"
    if isinstance(value, tuple | list):
        kinds = ", ".join(type(x).__name__ for x in value[:8])
        return f"a {type(value).__name__} of {len(value)} ({kinds})"
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
