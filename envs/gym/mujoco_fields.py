"""Fields of a MuJoCo model as parameters: `gravity[2]`, `body_mass[torso]*`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from metarl.envs.core.errors import UsageError

# Fields from which other values were computed that wouldn't follow a change.
COPIED = {
    "actuator_ctrlrange": "the action space was made from it",
    "qpos0": "the environment keeps a copy, init_qpos",
    "geom_size": "MuJoCo computed collision bounds, geom_rbound and geom_aabb, from it",
    "geom_type": "MuJoCo computed collision bounds, geom_rbound and geom_aabb, from it",
}
ELEMENTS = {
    "geom_friction": "sliding, torsional, rolling",
    "pair_friction": "sliding twice, torsional, rolling twice",
    "gravity": "x, y, z",
    "wind": "x, y, z",
    "magnetic": "x, y, z",
    "body_inertia": "about x, y, z",
    "body_pos": "x, y, z",
}


def find_field(model: Any, name: str) -> tuple[Any, Any] | None:
    """The array of a field and the index of the named part; None if there is no such field.

    Raises:
        UsageError: the field exists, but the part doesn't.
    """
    match = re.fullmatch(r"(\w+)(?:\[(.+)\])?", name)
    if match is None:
        return None
    field, inside = match.groups()
    owner = next((o for o in (model, model.opt) if hasattr(o, field)), None)
    if owner is None or callable(getattr(owner, field)):
        return None
    if not isinstance(getattr(owner, field), np.ndarray):  # a scalar of `opt`, such as timestep
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
    prefix = field.split("_")[0]
    kind = _kind(prefix)
    try:
        element = getattr(model, kind)(part)
    except (AttributeError, KeyError) as error:
        raise UsageError(
            f"'{field}[{part}]': the model has no such {kind}: give its index or a valid name "
            f"({' '.join(str(error).split())})."
        ) from error
    if prefix == "dof":  # a joint has one, three or six degrees of freedom
        first, last = (
            int(model.jnt_dofadr[i]) if i < model.njnt else model.nv
            for i in (element.id, element.id + 1)
        )
        return np.arange(first, last)
    return element.id


def _kind(prefix: str) -> str:
    """Kind of the elements of a field, from the prefix of its name."""
    return {"jnt": "joint", "dof": "joint"}.get(prefix, prefix)


def model_field(model: Any, name: str, relative: bool) -> Callable[[Any], None]:
    """A function that sets a part of a model; relative values refer to the current ones.

    Raises:
        UsageError: the name refers to several numbers, which a single value would make equal, or to
            a field from which other values were computed.
    """
    import mujoco

    found = find_field(model, name)
    assert found is not None  # checked by `find`
    owner, index = found
    field = name.split("[")[0]
    if field in COPIED or field.endswith(("adr", "num", "id")):
        why = COPIED.get(field, "it is part of the structure of the model")
        raise UsageError(
            f"'{name}': {why}: give module:function, which is called with (env, value)."
        )
    is_number = isinstance(index, str)
    original = getattr(owner, index) if is_number else owner[index].copy()
    if not relative and np.size(original) > 1:
        raise UsageError(_several(model, name, owner, original))

    def assign(value: Any) -> None:
        wanted = original * value if relative else value
        if np.asarray(original).dtype.kind in "iub" and (wanted != np.round(wanted)).any():
            raise UsageError(f"'{name}'={value:g}: it must be an integer: vary it with :int.")
        if is_number:
            setattr(owner, index, wanted)
        else:
            owner[index] = wanted
        # Recompute constants that MuJoCo derives from the model.
        mujoco.mj_setConst(model, mujoco.MjData(model))

    return assign


def _several(model: Any, name: str, whole: Any, part: Any) -> str:
    """The message for a name that refers to several numbers, with an example of a single one."""
    field, _, inside = name.partition("[")
    inside, kind = inside.rstrip("]"), _kind(field.split("_")[0])
    names = []
    if field.startswith("dof"):
        names = [model.joint(i).name for i in range(model.njnt) if model.jnt_type[i] >= 2]
    elif len(whole) == getattr(model, f"n{kind}", -1):
        names = [getattr(model, kind)(i).name for i in range(len(whole))]
    root = model.body(0).name  # the fixed frame, not a body
    names = [n for n in names if n not in ("", root)]
    about = f" ({', '.join(names[:12])}{', ...' if len(names) > 12 else ''})" if names else ""
    about += f" ({ELEMENTS[field]})" if field in ELEMENTS else ""
    if field.startswith("dof") and inside:
        one = str(int(find_field(model, name)[1][0][0]))  # type: ignore[index]
    elif whole.ndim > 1:
        one = f"{inside or (names or ['0'])[0]},0"
    else:
        one = names[0] if names else str(len(whole) - 1)
    return (
        f"'{name}' refers to {part.size} numbers of a field of shape {whole.shape}{about}: give "
        f"one of them, such as {field}[{one}], or {name}* to scale them all."
    )
