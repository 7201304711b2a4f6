"""Records of families for `metarl families`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator

from metarl.config.family_spec import is_gymnasium_id
from metarl.envs import FAMILIES, Family, UsageError, gymnasium_id, make_family, parameters, unseen
from metarl.envs.core.family import allowed
from metarl.envs.gym.parameter_setters import keywords
from metarl.envs.gym.specs import find_spec


def usable() -> Iterator[str]:
    """Names of families whose packages are installed."""
    for name in FAMILIES:
        try:
            make_family(name)
        except UsageError:
            continue
        yield name


def record(name: str) -> dict[str, Any]:
    """The record of a family; if its package is missing, how to install it."""
    if name not in FAMILIES and is_gymnasium_id(name):
        return _environment(name)
    try:
        family = make_family(name)
    except UsageError as error:  # a missing package, or an unknown name, which is raised
        if name not in FAMILIES:
            raise
        return {"name": name, "needs": str(error)}
    found: dict[str, Any] = {
        "name": name,
        "about": _about(family),
        "source": getattr(family, "source", "your own"),
        "unseen": unseen(family),
        "validation": unseen(family, "validation"),
        "parameters": {
            k: {"unit": p.unit, "train": str(p), "allowed": allowed(p)}
            for k, p in parameters(family).items()
        },
    }
    if not hasattr(family, "env_config"):  # for Gymnasium environments, known only after make
        found |= {
            "horizon": family.horizon,
            "observation_space": str(family.observation_space),
            "action_space": str(family.action_space),
        }
    if not hasattr(family, "simulate"):
        found["gymnasium_id"] = gymnasium_id(family)
    return found


def _environment(name: str) -> dict[str, Any]:
    """The record of a Gymnasium environment, which becomes a family with `--vary`.

    Raises:
        UsageError: unknown, or it can't be made.
    """
    spec, _ = find_spec(name, ())
    try:
        env = gymnasium.make(spec, disable_env_checker=True)
        observations, actions = str(env.observation_space), str(env.action_space)
        attributes = {k: v for k, v in vars(env.unwrapped).items() if _is_number(k, v)}
        has_model = hasattr(env.unwrapped, "model") and hasattr(env.unwrapped, "data")
        env.close()
    except Exception as error:  # an environment may raise anything
        raise UsageError(
            f"{name}: make raised {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    choices = {
        "keywords of make": _keywords(spec),
        "attributes": attributes,
    }
    if has_model:
        choices["fields of the MuJoCo model"] = {"body_mass[NAME]": "...", "gravity[2]": "..."}
    numbers = (k for found in choices.values() for k, v in found.items() if _is_number(k, v))
    return {
        "name": name,
        "about": "a Gymnasium environment: a family once you say what varies in it.",
        "source": "Gymnasium",
        "horizon": spec.max_episode_steps,
        "observation_space": observations,
        "action_space": actions,
        "could_vary": choices,
        "example": f"metarl train {name} --vary {next(numbers, 'NAME')}=LOW:HIGH",
    }


def _keywords(spec: EnvSpec) -> dict[str, Any]:
    """Keywords of `gymnasium.make` with their defaults."""
    creator: Any = spec.entry_point
    creator = load_env_creator(creator) if isinstance(creator, str) else creator
    defaults = {k: p.default for k, p in inspect.signature(creator).parameters.items()}
    known = {**defaults, **spec.kwargs}
    shown = {k: known.get(k, inspect.Parameter.empty) for k in sorted(keywords(spec)[0])}
    return {k: "required" if v is inspect.Parameter.empty else v for k, v in shown.items()}


def _is_number(name: str, value: Any) -> bool:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return number and not name.startswith("_")


def _about(family: Family) -> str:
    about = getattr(family, "about", None) or type(family).__doc__ or ""
    return str(about).strip().split("\n")[0]
