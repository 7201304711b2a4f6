"""What a task is. Knows nothing of learning.

`FAMILIES` is the whole registry: a new family is one file and one line here.
"""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium

from envs.cartpole import CartPole
from envs.errors import RunError, UsageError
from envs.family import (
    SPLITS,
    Choice,
    Family,
    Range,
    Split,
    make_task,
    parameters,
    sample_tasks,
    task_values,
)
from envs.forager import Forager
from envs.gym_view import GymView
from envs.point_navigation import PointNavigation
from envs.simulator import Simulator, TensorSimulator, simulate

FAMILIES: dict[str, type[Any]] = {f.name: f for f in (Forager, PointNavigation, CartPole)}


def make_family(name: str) -> Family:
    """A family by its name, or a user's own by `module:Class`.

    Raises:
        UsageError: no such family, module or class.
    """
    if name in FAMILIES:
        family: Family = FAMILIES[name]()
        return family
    module, colon, cls = name.partition(":")
    if not colon:
        raise UsageError(
            f"unknown family '{name}': give one of {', '.join(FAMILIES)}, "
            "or your own as module:Class."
        )
    try:
        made = getattr(importlib.import_module(module), cls)()
    except ModuleNotFoundError as error:
        raise UsageError(
            f"family '{name}': {error}: start where the module can be imported."
        ) from error
    except AttributeError as error:
        raise UsageError(f"family '{name}': {error}: check the class name.") from error
    return made  # type: ignore[no-any-return]


def gymnasium_id(family: Family) -> str:
    """`metarl/PointNavigation-v0` for `point-navigation`."""
    return f"metarl/{type(family).__name__}-v0"


def _register() -> None:
    for cls in FAMILIES.values():
        family = cls()
        if gymnasium_id(family) not in gymnasium.registry:
            gymnasium.register(
                gymnasium_id(family),
                entry_point=GymView,  # type: ignore[arg-type]
                max_episode_steps=family.horizon,
                kwargs={"family": family},
            )


_register()

__all__ = [
    "FAMILIES",
    "SPLITS",
    "Choice",
    "Family",
    "GymView",
    "Range",
    "RunError",
    "Simulator",
    "Split",
    "TensorSimulator",
    "UsageError",
    "gymnasium_id",
    "make_family",
    "make_task",
    "parameters",
    "sample_tasks",
    "simulate",
    "task_values",
]
