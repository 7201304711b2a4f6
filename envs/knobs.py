"""How a parameter of any Gymnasium environment is found and set."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator

from envs.derived import derived
from envs.errors import UsageError

Setter = Callable[[Any, Any], None]  # environment, value


@dataclass(frozen=True)
class Knob:
    """Where a parameter lives, and how to set it in an environment that exists."""

    kind: Literal["keyword", "attribute", "MuJoCo field", "function"]
    name: str  # keyword of make, for that kind
    # A new environment -> what sets its parameter, which may remember the original value.
    bind: Callable[[Any], Callable[[Any], None]] | None = None


def keywords(spec: EnvSpec) -> tuple[set[str], bool]:
    """The keywords that `make` takes for an environment, and whether it takes any other."""
    creator: Any = spec.entry_point
    creator = load_env_creator(creator) if isinstance(creator, str) else creator
    kinds = {k: p.kind for k, p in inspect.signature(creator).parameters.items()}
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = {k for k, kind in kinds.items() if kind in by_name} | set(spec.kwargs)
    return named - {"render_mode", "self"}, inspect.Parameter.VAR_KEYWORD in kinds.values()


def find(env: Any, name: str, function: Setter | None = None) -> Knob:
    """Keyword of `make`, attribute, MuJoCo model field, or the user's function, in this order.

    A function given for a name is what the user wants, so it wins over the rest. `name*` means
    relative to the environment's own value; `field[index]` a part of a MuJoCo model's field.

    Raises:
        UsageError: nothing of that name, or one that can't be changed safely.
    """
    if function is not None:
        return Knob("function", name, lambda env: lambda value: function(env, value))
    known, open_ended = keywords(env.spec)
    if name in known:
        return Knob("keyword", name)
    plain, relative = name.rstrip("*"), name.endswith("*")
    bare = env.unwrapped
    if _is_attribute(bare, plain):
        redo = derived(type(bare), plain)
        return Knob("attribute", name, lambda env: _attribute(env, plain, relative, redo))
    if (model := getattr(bare, "model", None)) is not None and _field(model, plain):
        return Knob("MuJoCo field", name, lambda env: _model_field(env, plain, relative))
    if open_ended:
        return Knob("keyword", name)
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
    value = getattr(bare, name)
    if not isinstance(value, int | float | str | np.number):
        return False
    member = inspect.getattr_static(type(bare), name, None)
    return not isinstance(member, property) or member.fset is not None


def _attribute(
    env: Any, name: str, relative: bool, redo: Callable[[Any], None]
) -> Callable[[Any], None]:
    bare = env.unwrapped
    original = getattr(bare, name)

    def assign(value: Any) -> None:
        setattr(bare, name, original * value if relative else value)
        redo(bare)

    return assign


def _field(model: Any, name: str) -> tuple[Any, Any] | None:
    """The array that holds a field, and the index of the named part; None if there is none.

    Raises:
        UsageError: the field is there, but not the part.
    """
    match = re.fullmatch(r"(\w+)(?:\[(.+)\])?", name)
    if match is None:
        return None
    field, inside = match.groups()
    owner = next((o for o in (model, model.opt) if hasattr(o, field)), None)
    if owner is None or callable(getattr(owner, field)):
        return None
    if not isinstance(getattr(owner, field), np.ndarray):  # a number of `opt`, such as timestep
        return (owner, field) if inside is None else None
    index = (
        tuple(_index(model, field, part.strip()) for part in inside.split(",")) if inside else ...
    )
    try:
        getattr(owner, field)[index]
    except IndexError as error:
        raise UsageError(
            f"'{name}': {error}: {field} has shape {getattr(owner, field).shape}."
        ) from error
    return getattr(owner, field), index


def _index(model: Any, field: str, part: str) -> Any:
    if part.lstrip("-").isdigit():
        return int(part)
    kind = {"jnt": "joint", "dof": "joint"}.get(prefix := field.split("_")[0], prefix)
    try:
        element = getattr(model, kind)(part)
    except (AttributeError, KeyError) as error:
        raise UsageError(
            f"'{field}[{part}]': the model has no such {kind}: give its number, or one of its names"
            f" ({' '.join(str(error).split())})."
        ) from error
    if prefix == "dof":  # a joint has one degree of freedom or more
        return np.atleast_1d(element.dofadr)
    return element.id


def _model_field(env: Any, name: str, relative: bool) -> Callable[[Any], None]:
    import mujoco

    model = env.unwrapped.model
    found = _field(model, name)
    assert found is not None  # `find` saw it
    owner, index = found
    is_number = isinstance(index, str)
    original = getattr(owner, index) if is_number else owner[index].copy()

    def assign(value: Any) -> None:
        wanted = original * value if relative else value
        if is_number:
            setattr(owner, index, wanted)
        else:
            owner[index] = wanted
        # Constants that MuJoCo derives from masses and the like.
        mujoco.mj_setConst(model, mujoco.MjData(model))

    return assign
