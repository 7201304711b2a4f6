"""Finds and sets parameters of Gymnasium environments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator

from metarl.envs.core.errors import UsageError
from metarl.envs.gym.derived_attributes import ADVICE, Owner, refused
from metarl.envs.gym.mujoco_fields import find_field, model_field

SetValue = Callable[[Any, Any], None]  # environment, value


@dataclass(frozen=True)
class ParameterSetter:
    """The kind of a parameter, which determines how it is set."""

    kind: Literal["keyword", "attribute", "MuJoCo field", "function"]
    name: str
    owner: Owner = ("", "")  # class of an attribute

    @property
    def plain(self) -> str:
        """The name without the trailing `*`."""
        return self.name.rstrip("*")

    @property
    def relative(self) -> bool:
        """Whether values are relative to the environment's."""
        return self.name.endswith("*")

    @property
    def made(self) -> bool:
        """Whether each value needs a new environment."""
        return self.kind in ("keyword", "attribute")

    def bind(self, env: Any, function: SetValue | None) -> Callable[[Any], None]:
        """A function that sets the parameter in an existing environment."""
        if self.kind == "MuJoCo field":
            return model_field(env.unwrapped.model, self.plain, self.relative)
        assert function is not None  # other kinds aren't bound
        return lambda value: function(env, value)


def keywords(spec: EnvSpec) -> tuple[set[str], bool]:
    """The keywords that `make` accepts for an environment, and whether it accepts any others."""
    signature = _signature(spec)
    kinds = {k: p.kind for k, p in signature.items()}
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = {k for k, kind in kinds.items() if kind in by_name} | set(spec.kwargs)
    return named - {"render_mode", "self"}, inspect.Parameter.VAR_KEYWORD in kinds.values()


def keyword_defaults(spec: EnvSpec) -> dict[str, Any]:
    """Defaults of the keywords of `make`."""
    return {k: p.default for k, p in _signature(spec).items()} | spec.kwargs


def _signature(spec: EnvSpec) -> Mapping[str, inspect.Parameter]:
    creator: Any = spec.entry_point
    creator = load_env_creator(creator) if isinstance(creator, str) else creator
    return inspect.signature(creator).parameters


def find(env: Any, name: str, function: SetValue | None = None) -> ParameterSetter:
    """Find a parameter: a user function, keyword of `make`, attribute, or MuJoCo model field.

    The first match in this order is used. `name*` is relative to the environment's value;
    `field[index]` is a part of a field of a MuJoCo model.

    Raises:
        UsageError: there is no such parameter, or it can't be changed safely.
    """
    if function is not None:
        return ParameterSetter("function", name)
    known, open_ended = keywords(env.spec)
    if name in known:
        return ParameterSetter("keyword", name)
    plain, relative = name.rstrip("*"), name.endswith("*")
    bare = env.unwrapped
    if _is_attribute(bare, plain):
        if trouble := refused(type(bare), plain):
            raise UsageError(f"'{name}' (attribute of {type(bare).__name__}): {trouble}: {ADVICE}.")
        return ParameterSetter("attribute", name, (type(bare).__module__, type(bare).__qualname__))
    if (model := getattr(bare, "model", None)) is not None and find_field(model, plain):
        model_field(model, plain, relative)
        return ParameterSetter("MuJoCo field", name)
    if open_ended:
        return ParameterSetter("keyword", name)
    numbers = [
        k
        for k, v in vars(bare).items()
        if isinstance(v, int | float | np.number) and not k.startswith("_")
    ]
    raise UsageError(
        f"{env.spec.id} has no parameter '{name}': give a keyword of make "
        f"({', '.join(sorted(known)) or 'none'}), an attribute ({', '.join(numbers) or 'none'})"
        + (", a field of the MuJoCo model" if model is not None else "")
        + ", or module:function, which is called with (env, value)."
    )


def _is_attribute(bare: Any, name: str) -> bool:
    if not name.isidentifier() or name not in dir(bare):
        return False
    member = inspect.getattr_static(type(bare), name, None)
    if isinstance(member, property) and member.fset is None:
        return False
    return isinstance(getattr(bare, name), int | float | str | np.number)
