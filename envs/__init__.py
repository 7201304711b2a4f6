"""What a task is. Knows nothing of learning.

`FAMILIES` is the whole registry: a new family is one file and one line here.
"""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium

from envs.acrobot import Acrobot
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
from envs.mountain_car import MountainCar
from envs.pendulum import Pendulum
from envs.point_navigation import PointNavigation
from envs.simulator import Simulator, TensorSimulator, probe, simulate

FAMILIES: dict[str, type[Any]] = {
    f.name: f for f in (Forager, PointNavigation, CartPole, Pendulum, Acrobot, MountainCar)
}


FAMILY_NEEDS = ("name", "task_type", "horizon", "observation_space", "action_space")
TENSOR_FAMILY_NEEDS = ("reset_noise", "step_noise", "reset", "observe", "step")


def make_family(name: str) -> Family:
    """A family by its name, or a user's own by `module:Class`.

    Raises:
        UsageError: no such family, module or class.
    """
    if name in FAMILIES:
        family: Family = FAMILIES[name]()
        return family
    module, colon, cls = name.partition(":")
    if not (module and colon and cls):
        raise UsageError(
            f"unknown family '{name}': give one of {', '.join(FAMILIES)}, "
            "or your own as module:Class."
        )
    return _own_family(name, module, cls)


def _own_family(name: str, module: str, cls: str) -> Family:
    """A user's family; whatever goes wrong in the user's module is told in one line."""
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"family '{name}': {error}: start where the module can be imported."
        ) from error
    except Exception as error:
        raise UsageError(
            f"family '{name}': importing {module} raised {type(error).__name__}: {error}: "
            "mend it, or give another module:Class."
        ) from error
    if not hasattr(found, cls):
        raise UsageError(
            f"family '{name}': {module} has no attribute '{cls}': check the class name."
        )
    try:
        made: Family = getattr(found, cls)()
    except Exception as error:
        raise UsageError(
            f"family '{name}': {cls}() raised {type(error).__name__}: {error}: "
            "give module:Class of a family whose fields all have defaults."
        ) from error
    needs = FAMILY_NEEDS if hasattr(made, "simulate") else FAMILY_NEEDS + TENSOR_FAMILY_NEEDS
    missing = [need for need in needs if not hasattr(made, need)]
    if missing:
        raise UsageError(
            f"family '{name}' lacks {', '.join(missing)}: see the example of a family in README."
        )
    return made


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
    "Acrobot",
    "Choice",
    "Family",
    "GymView",
    "MountainCar",
    "Pendulum",
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
    "probe",
    "sample_tasks",
    "simulate",
    "task_values",
]
