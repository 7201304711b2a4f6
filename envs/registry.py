"""Built-in families by name. A new family takes one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from metarl.envs.bandits.bandit import Bandit
from metarl.envs.bandits.recommender import Recommender
from metarl.envs.bandits.tabular_mdp import TabularMDP
from metarl.envs.classic_control.acrobot import Acrobot
from metarl.envs.classic_control.cartpole import CartPole
from metarl.envs.classic_control.mountain_car import MountainCar
from metarl.envs.classic_control.pendulum import Pendulum
from metarl.envs.classic_control.point_navigation import PointNavigation
from metarl.envs.core.errors import UsageError
from metarl.envs.core.family import Family
from metarl.envs.core.user_code import import_user_code
from metarl.envs.games.breakout import Breakout
from metarl.envs.games.forager import Forager
from metarl.envs.games.maze import Maze
from metarl.envs.games.pong import Pong
from metarl.envs.games.repeated_rps import RepeatedRPS
from metarl.envs.games.snake import Snake
from metarl.envs.games.word_guess import WordGuess
from metarl.envs.mujoco.ant import AntDir, AntDir2D, AntGoal, AntVel
from metarl.envs.mujoco.half_cheetah import HalfCheetahDir, HalfCheetahVel
from metarl.envs.mujoco.half_cheetah_dynamics import (
    HalfCheetahDamping,
    HalfCheetahFriction,
    HalfCheetahGravity,
    HalfCheetahMass,
)
from metarl.envs.mujoco.humanoid import HumanoidDir
from metarl.envs.mujoco.rand_params import HopperRandParams, Walker2dRandParams
from metarl.envs.suites import SUITES, metaworld_one

FAMILIES: dict[str, Callable[[], Any]] = {
    family.name: family
    for family in (
        Forager,
        Breakout,
        Pong,
        Snake,
        Maze,
        RepeatedRPS,
        WordGuess,
        Bandit,
        TabularMDP,
        Recommender,
        PointNavigation,
        CartPole,
        Pendulum,
        Acrobot,
        MountainCar,
        HalfCheetahDir,
        HalfCheetahVel,
        HalfCheetahMass,
        HalfCheetahFriction,
        HalfCheetahDamping,
        HalfCheetahGravity,
        AntDir,
        AntDir2D,
        AntVel,
        AntGoal,
        HumanoidDir,
        Walker2dRandParams,
        HopperRandParams,
    )
} | SUITES


FAMILY_NEEDS = ("name", "task_type", "horizon", "observation_space", "action_space")
TENSOR_FAMILY_NEEDS = ("reset_noise", "step_noise", "reset", "observe", "step")


def make_family(name: str) -> Any:
    """Make a family by name, or a custom one by `module:Class`.

    Raises:
        UsageError: unknown family, module or class.
    """
    if name in FAMILIES:
        return FAMILIES[name]()
    if name.startswith("metaworld-ml1-"):
        return metaworld_one(name.removeprefix("metaworld-ml1-"))
    module, colon, cls = name.partition(":")
    if not (module and colon and cls):
        near = get_close_matches(name, FAMILIES, n=3, cutoff=0.6)
        raise UsageError(
            f"unknown family '{name}': give {', '.join(near)}{' or ' if near else ''}another that "
            "`metarl families` lists, a custom one as module:Class, or the id of a Gymnasium "
            "environment, such as Pendulum-v1."
        )
    return _own_family(name, module, cls)


def _own_family(name: str, module: str, cls: str) -> Family:
    """Make a custom family; errors in its module are reported in one line."""
    try:
        found = import_user_code(module)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"family '{name}': {error}: run where the module can be imported."
        ) from error
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"family '{name}': importing {module} raised {type(error).__name__}: {error}: "
            "fix it, or give another module:Class."
        ) from error
    if not hasattr(found, cls):
        raise UsageError(
            f"family '{name}': {module} has no attribute '{cls}': check the class name."
        )
    try:
        family: Family = getattr(found, cls)()
        needs = FAMILY_NEEDS if hasattr(family, "simulate") else FAMILY_NEEDS + TENSOR_FAMILY_NEEDS
        missing = [need for need in needs if not hasattr(family, need)]
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"family '{name}': {cls}() raised {type(error).__name__}: {error}: "
            "give module:Class of a family whose fields all have defaults."
        ) from error
    if missing:
        raise UsageError(
            f"family '{name}' lacks {', '.join(missing)}: see the example of a family in README."
        )
    return family


def gymnasium_id(family: Family) -> str:
    """Gymnasium id of a family, such as `metarl/PointNavigation-v0` for `point-navigation`."""
    return f"metarl/{type(family).__name__}-v0"
