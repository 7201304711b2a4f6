"""Gymnasium ids, where their suites come from, and what some of their parameters need beside."""

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
    extra: str  # what installs them
    spec: Callable[[str], EnvSpec]  # how an environment is shown to an agent


# By the beginning of an id.
SUITES = {
    "ALE/": Suite(("ale_py", "cv2"), "atari", atari_spec),
    "MiniGrid-": Suite(("minigrid",), "minigrid", grid_spec),
    "BabyAI-": Suite(("minigrid",), "minigrid", grid_spec),
    "Meta-World/": Suite(("metaworld",), "metaworld", gymnasium.spec),
}

# Beginning of an entry point -> module that it needs, extra that installs it.
PACKAGES = {
    "gymnasium.envs.box2d": ("Box2D", "box2d"),
    "gymnasium.envs.mujoco": ("mujoco", "mujoco"),
}

# Parameters that do nothing until another setting switches them on.
COMPANIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("LunarLander", "wind_power"): {"enable_wind": True},
    ("LunarLander", "turbulence_power"): {"enable_wind": True},
}

ONLY_VECTOR = (
    "is a vector environment only, of which no single one can be made: write a family with "
    "simulate(), see docs/extending.md."
)


def find_spec(environment: str | EnvSpec, vary: Iterable[str]) -> tuple[EnvSpec, dict[str, Any]]:
    """The registered environment, and the settings that its parameters need beside.

    Raises:
        UsageError: unknown, or its package isn't installed.
    """
    spec = environment if isinstance(environment, EnvSpec) else _registered(environment)
    if spec.entry_point is None:
        raise UsageError(f"{spec.id} {ONLY_VECTOR}")
    needs = [COMPANIONS.get((spec.name, name), {}) for name in vary]
    return spec, {k: v for need in needs for k, v in need.items()}


def environment_class(name: str) -> EnvSpec | None:
    """A spec for `module:Class` if that is an environment, which needs no registration."""
    module, _, attribute = name.partition(":")
    if not attribute:  # the name of a family, which no module has to do with
        return None
    try:
        cls = getattr(import_user_code(module), attribute)
    except (Exception, SystemExit):  # told where the family is made
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
        spec = gymnasium.spec(plain)  # complains where there is none
        spec = suite.spec(plain) if suite else spec
    except (Exception, SystemExit) as error:  # gymnasium's own, and whatever a user's module raises
        raise UsageError(f"unknown environment '{name}': {error}") from error
    for start, (package, extra) in PACKAGES.items():
        if str(spec.entry_point).startswith(start):
            need(name, package, extra)
    return spec
