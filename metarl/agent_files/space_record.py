"""Spaces as plain data: a JSON record each, and the bounds of a Box as tensors."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from torch import Tensor

from metarl.envs import UsageError

LARGEST = 2**24  # numbers in an observation, choices of an action
AXES = 8
BOUNDS = ("low", "high")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8")
NUMBERS = (*INTEGERS, "float16", "float32", "float64")  # what safetensors and torch both have

KEYS = {
    "Box": ("shape", "dtype"),
    "Discrete": ("n", "dtype"),
    "MultiDiscrete": ("n", "dtype"),
    "MultiBinary": ("n",),
}


class Bounds(NamedTuple):
    """What the bounds of a Box must be."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def space_record(space: Space[Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A space as JSON, and its bounds.

    Raises:
        UsageError: no policy takes such a space.
    """
    kind, dtype = type(space).__name__, str(space.dtype)
    if isinstance(space, Box) and dtype in NUMBERS:
        bounds = {k: torch.from_numpy(np.array(getattr(space, k))) for k in BOUNDS}
        return {"type": kind, "shape": list(space.shape), "dtype": dtype}, bounds
    if isinstance(space, Discrete):
        return {"type": kind, "n": int(space.n), "dtype": dtype}, {}
    if isinstance(space, MultiDiscrete):
        return {"type": kind, "n": space.nvec.tolist(), "dtype": dtype}, {}
    if isinstance(space, MultiBinary):
        return {"type": kind, "n": space.n if isinstance(space.n, int) else list(space.n)}, {}
    raise UsageError(f"{space} can't be saved: give a Box, Discrete, MultiDiscrete or MultiBinary.")


def bounds_of(record: Any) -> Bounds | None:
    """What bounds a recorded space needs; None for one without.

    Raises:
        UsageError: the record is of no space, or of one that is too large.
    """
    kind = record.get("type") if isinstance(record, dict) else None
    if kind not in KEYS or set(record) != {"type", *KEYS[kind]}:
        raise UsageError("a space is of no known kind")
    sizes = record["shape" if kind == "Box" else "n"]
    listed = sizes if isinstance(sizes, list) else [sizes]
    right = type(sizes) is (int if kind == "Discrete" else list) or kind == "MultiBinary"
    if not (right and all(type(n) is int and 0 < n <= LARGEST for n in listed)):
        raise UsageError(f"a {kind} has size {str(sizes)[:80]}")
    if kind != "MultiDiscrete" and (len(listed) > AXES or math.prod(listed) > LARGEST):
        raise UsageError(f"a {kind} has size {str(sizes)[:80]}")
    if "dtype" in record and record["dtype"] not in (NUMBERS if kind == "Box" else INTEGERS):
        raise UsageError(f"a {kind} holds {str(record['dtype'])[:80]}")
    return Bounds(tuple(sizes), getattr(torch, record["dtype"])) if kind == "Box" else None


def stand_in(record: dict[str, Any]) -> Space[Any]:
    """A space of the same shape as the recorded one, for which no bounds are needed."""
    if record["type"] == "Box":
        return Box(-1.0, 1.0, tuple(record["shape"]))
    return make_space(record, {})


def make_space(record: dict[str, Any], bounds: dict[str, Tensor]) -> Space[Any]:
    """The space of a record that `bounds_of` accepts.

    Args:
        bounds: low and high of a Box, of the shape and type that `bounds_of` wants.
    Raises:
        UsageError: no number lies between the bounds.
    """
    if record["type"] == "Discrete":
        return Discrete(record["n"], dtype=getattr(np, record["dtype"]))
    if record["type"] == "MultiDiscrete":
        return MultiDiscrete(record["n"], dtype=getattr(np, record["dtype"]))
    if record["type"] == "MultiBinary":
        return MultiBinary(record["n"])
    low, high = (bounds[k] for k in BOUNDS)
    if not (low <= high).all():
        raise UsageError("a Box has a low above its high, or NaN")
    kind = getattr(np, record["dtype"])
    return Box(low.numpy(), high.numpy(), tuple(record["shape"]), kind)
