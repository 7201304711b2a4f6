"""Specs of Gymnasium ids, the packages of their suites, and settings that parameters require."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import gymnasium
from gymnasium.envs.registration import EnvSpec

from metarl.envs.core.errors import UsageError
from metarl.envs.core.optional_packages import need
from metarl.envs.core.user_code import import_user_code
from metarl.envs.gym.preprocessing.atari import atari_spec
from metarl.envs.gym.preprocessing.minigrid import grid_spec


class Suite(NamedTuple):
    """A package of environments."""

    packages: tuple[str, ...]  # the first registers the ids
    extra: str  # the extra that installs them
    spec: Callable[[str], EnvSpec]  # makes the spec, with preprocessing


# By the prefix of an id.
SUITES = {
    "ALE/": Suite(("ale_py", "cv2"), "atari", atari_spec),
    "MiniGrid-": Suite(("minigrid",), "minigrid", grid_spec),
    "BabyAI-": Suite(("minigrid",), "minigrid", grid_spec),
    "Meta-World/": Suite(("metaworld",), "metaworld", gymnasium.spec),
}

# Prefix of an entry point -> module that it needs, extra that installs it.
PACKAGES = {
    "gymnasium.envs.box2d": ("Box2D", "box2d"),
    "gymnasium.envs.mujoco": ("mujoco", "mujoco"),
}

# Settings that parameters need to have an effect.
COMPANIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("LunarLander", "wind_power"): {"enable_wind": True},
    ("LunarLander", "turbulence_power"): {"enable_wind": True},
}

ONLY_VECTOR = (
    "is a vector environment, which can't be made as a single one: write a family with "
    "simulate(), see docs/extending.md."
)


def find_spec(environment: str | EnvSpec, vary: Iterable[str]) -> tuple[EnvSpec, dict[str, Any]]:
    """The spec of an environment, and the settings that its parameters require.

    Raises:
        UsageError: unknown environment, or its package isn't installed.
    """
    spec = environment if isinstance(environment, EnvSpec) else _registered(environment)
    if spec.entry_point is None:
        raise UsageError(f"{spec.id} {ONLY_VECTOR}")
    needs = [COMPANIONS.get((spec.name, name), {}) for name in vary]
    return spec, {k: v for need in needs for k, v in need.items()}


def environment_class(name: str) -> EnvSpec | None:
    """A spec for `module:Class` if it is an environment, which need not be registered."""
    module, _, attribute = name.partition(":")
    if not attribute:  # the name of a built-in family
        return None
    try:
        cls = getattr(import_user_code(module), attribute)
    except (Exception, SystemExit):  # reported when the family is made
        return None
    if isinstance(cls, type) and issubclass(cls, gymnasium.vector.VectorEnv):
        raise UsageError(f"{name} {ONLY_VECTOR}")
    if not (isinstance(cls, type) and issubclass(cls, gymnasium.Env)):
        return None
    return EnvSpec(f"{attribute}-v0", entry_point=f"{module}:{attribute}")


def _registered(name: str) -> EnvSpec:
    module, _, plain = name.rpartition(":")
    suite = next((s for start, s in SUITES.items() if plain.startswith(start)), None)
    for package in suite.packages if suite else ():
        need(name, package, suite.extra)  # type: ignore[union-attr]
    try:
        if suite:
            importlib.import_module(suite.packages[0])
        elif module:
            import_user_code(module)
        spec = gymnasium.spec(plain)  # raises if the id is unknown
        spec = suite.spec(plain) if suite else spec
    except (Exception, SystemExit) as error:  # importing user code may raise anything
        raise UsageError(f"unknown environment '{name}': {error}") from error
    for start, (package, extra) in PACKAGES.items():
        if str(spec.entry_point).startswith(start):
            need(name, package, extra)
    return spec
