"""Gymnasium ids, where their suites come from, and what some of their parameters need beside."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from envs.errors import UsageError

# Beginning of an id -> module that registers it, extra that installs it.
SUITES = {
    "ALE/": ("ale_py", "atari"),
    "MiniGrid-": ("minigrid", "minigrid"),
    "BabyAI-": ("minigrid", "minigrid"),
    "Meta-World/": ("metaworld", "metaworld"),
}

# Parameters that do nothing until another setting switches them on.
COMPANIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("LunarLander", "wind_power"): {"enable_wind": True},
    ("LunarLander", "turbulence_power"): {"enable_wind": True},
}


def find_spec(environment: str | EnvSpec, vary: Iterable[str]) -> tuple[EnvSpec, dict[str, Any]]:
    """The registered environment, and the settings that its parameters need beside.

    Raises:
        UsageError: unknown, or its package isn't installed.
    """
    spec = environment if isinstance(environment, EnvSpec) else _registered(environment)
    needs = [COMPANIONS.get((spec.name, name), {}) for name in vary]
    return spec, {k: v for need in needs for k, v in need.items()}


def _registered(name: str) -> EnvSpec:
    for start, (module, extra) in SUITES.items():
        if name.startswith(start):
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise UsageError(missing(name, extra)) from error
    try:
        return gymnasium.spec(name)
    except Exception as error:  # gymnasium's own, and whatever a user's module raises
        raise UsageError(f"unknown environment '{name}': {error}") from error


def missing(name: str, extra: str) -> str:
    """What to install, in one line."""
    return f'{name} needs a package that isn\'t here: pip install "metarl-toolkit[{extra}]"'
