"""The fields of a family as JSON, so that a run reopens the family that it was started on."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Env

from metarl.config.family_spec import build_family, is_gymnasium_id
from metarl.config.settings import RunConfig, TrainConfig
from metarl.envs import Choice, Family, GymnasiumFamily, Range, UsageError
from metarl.envs.gym.specs import find_spec

Record = Mapping[str, Any]
OLD_NAMES = {"beyond": "extrapolation"}  # renamed fields in records before version 0.2
PARAMETERS = {"Range": Range, "Choice": Choice}
PLAIN = (bool, int, float, str)
# Arguments of `GymnasiumFamily` that are recorded as they are. `workers` and `step_timeout` are
# settings of the run instead.
KEPT = ("live", "image", "name", "source", "about", "exact_replay")


class Unrecordable(Exception):
    """A value that can't be encoded as JSON; the message names it."""


def family_record(train: TrainConfig, run: RunConfig, family: Family, given: bool) -> Record:
    """All fields of a family, or the reason under `object` why they can't be recorded.

    Args:
        given: the user passed the family as an object; otherwise `build_family` built it.
    """
    named: Any = _named(train, run) if given else family
    try:
        if isinstance(family, GymnasiumFamily):
            return _environment_record(family, named)
        if type(named) is not type(family):
            raise Unrecordable(f"its class isn't what '{train.family}' names")
        if not dataclasses.is_dataclass(family):
            if given:
                raise Unrecordable("its class is not a dataclass")
            return {}
        return {"fields": _fields(family, named)}
    except Unrecordable as reason:
        return {"object": str(reason)}


def recorded_family(train: TrainConfig, run: RunConfig, record: Record) -> Family:
    """The family that a run was started on.

    Raises:
        UsageError: as `build_family`; or the record lacks fields, or has fields that a family of
            this name doesn't have.
    """
    if "object" in record:
        raise UsageError(
            f"this run was started on a family object that can't be recorded ({record['object']}): "
            "open it in Python, with the same object: metarl.load(RUN, family=...)."
        )
    make: Any = _environment if "environment" in record else _dataclass
    try:
        return make(train, run, record)  # type: ignore[no-any-return]
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"'{train.family}' can't be rebuilt from its record ({error!r}): open the run in "
            "Python, with the family object: metarl.load(RUN, family=...)."
        ) from error


def texts(record: Record) -> list[str]:
    """All strings among the recorded values, including labels of parameters."""
    parts = [record.get(part, {}) for part in ("fields", "vary", "fixed")]
    try:
        return [text for part in parts for text in _texts(part)]
    except RecursionError:
        raise UsageError("the record of the family is nested too deeply: restore it.") from None


def check_same(train: TrainConfig, family: Family, record: Record) -> None:
    """Raise UsageError unless a family object has the fields that a run was started with."""
    check_belongs(train, family)
    for name, encoded in record.get("fields", {}).items():
        was, now = decode(encoded), getattr(family, name, None)
        if not _equal(was, now):
            raise UsageError(
                f"this run was started on {family.name} with {name} {was}, not {now}: give a "
                "family that agrees."
            )


def check_belongs(train: TrainConfig, family: Family) -> None:
    """Raise UsageError if the settings belong to another family."""
    module, _, name = train.family.rpartition(":")
    names = {family.name}
    if isinstance(family, GymnasiumFamily):
        names.add(family.env_config.spec.id)
    if module:  # a class, or a function that returns a family of any name
        named = getattr(sys.modules.get(module), name, None)
        fits = not isinstance(named, type) or isinstance(family, named) or issubclass(named, Env)
        fits = name in names or (not is_gymnasium_id(name) and fits)
    else:
        fits = name in names
    if not fits:
        raise UsageError(
            f"settings of '{train.family}' with the family '{family.name}': give "
            f"preset('{family.name}'), or the family that the settings belong to."
        )


def _named(train: TrainConfig, run: RunConfig) -> Family | None:
    """The family that the settings name, or None if they name none."""
    try:
        return build_family(train, run)
    except UsageError:
        return None


def _fields(family: Any, named: Any) -> dict[str, Any]:
    """All fields; a field that JSON can't encode is omitted if `named` has the same value."""
    found = {}
    for name in (f.name for f in dataclasses.fields(family) if f.init):
        value = getattr(family, name)
        try:
            found[name] = encode(name, value)
        except Unrecordable:
            if not _equal(value, getattr(named, name)):
                raise
    return found


def _equal(one: Any, other: Any) -> bool:
    """False too where the two can't be compared, as arrays."""
    try:
        return one is other or bool(one == other)
    except (ValueError, RuntimeError):
        return False


def _changed(family: Any, record: Record) -> dict[str, Any]:
    """The recorded fields that differ from what the settings give."""
    changed = {}
    for name, told in record.get("fields", {}).items():
        value, now = decode(told), getattr(family, name)
        if None not in (value, now) and _kind(value) is not _kind(now):
            raise TypeError(f"{name} is {value}, not such as {now}")
        if value != now:
            changed[name] = value
    return changed


def _dataclass(train: TrainConfig, run: RunConfig, record: Record) -> Any:
    """The family that the settings name, with its recorded fields."""
    family: Any = build_family(train, run)
    changed = _changed(family, record)
    return dataclasses.replace(family, **changed) if changed else family


def _kind(value: Any) -> type:
    """Its type, where an int counts as a float and a Range as a Choice."""
    kind = {int: float, Range: Choice}
    return kind.get(type(value), type(value))


def _environment_record(family: GymnasiumFamily, named: Any) -> Record:
    """The arguments of a `GymnasiumFamily`."""
    env_config = family.env_config
    same = isinstance(named, GymnasiumFamily) and (
        (named.env_config.spec, named.env_config.functions)
        == (env_config.spec, env_config.functions)
    )
    if not same and env_config.functions:
        raise Unrecordable(f"{', '.join(env_config.functions)} is set by a function")
    if not same and not _registered(env_config.spec):
        raise Unrecordable(f"{env_config.spec.id} isn't registered as it is used")
    return {
        "environment": None if same else env_config.spec.id,  # None: what the settings name
        "vary": {k: encode(k, p) for k, p in family.vary.items()},
        "fixed": {k: encode(k, v) for k, v in env_config.fixed.items()},
        **{k: encode(k, list(v) if k == "live" else v) for k, v in _kept(family).items()},
    }


def _kept(family: GymnasiumFamily) -> dict[str, Any]:
    return {name: getattr(family, name) for name in KEPT}


def _registered(spec: Any) -> bool:
    try:
        return spec.id in gymnasium.registry and find_spec(spec.id, ())[0] == spec
    except UsageError:
        return False


def _environment(train: TrainConfig, run: RunConfig, record: Record) -> Any:
    """A `GymnasiumFamily` from its recorded arguments."""
    spec, functions = record["environment"], {}
    if spec is None:
        named: Any = build_family(train, run)
        spec, functions = named.env_config.spec, named.env_config.functions
    elif ":" in spec:  # it would be imported
        raise ValueError(spec)
    return GymnasiumFamily(
        spec,
        {k: decode(p) for k, p in record["vary"].items()},
        fixed={k: decode(v) for k, v in record["fixed"].items()},
        functions=functions,
        workers=run.workers,
        step_timeout=run.step_timeout,
        **{k: decode(record[k]) for k in KEPT},
    )


def encode(name: str, value: Any) -> Any:
    """Encode a value as JSON; `decode` is the inverse.

    Raises:
        Unrecordable: the type is not supported, for example a function.
    """
    if isinstance(value, np.number | np.bool_):
        value = value.item()
    if value is None or isinstance(value, PLAIN):
        return value
    if isinstance(value, Range | Choice):
        fields = {f.name: encode(name, getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {type(value).__name__: fields}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [encode(name, each) for each in value]}
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"dict": {k: encode(name, v) for k, v in value.items()}}
    raise Unrecordable(f"{name} is a {type(value).__name__}")


def decode(encoded: Any) -> Any:
    """The inverse of `encode`.

    Raises:
        KeyError, TypeError or ValueError: for input that `encode` doesn't produce.
    """
    if not isinstance(encoded, dict):
        if isinstance(encoded, list):
            raise ValueError(encoded)
        return encoded
    ((kind, inside),) = encoded.items()
    if kind in PARAMETERS:
        fields = {OLD_NAMES.get(k, k): decode(v) for k, v in inside.items()}
        return _parameter(PARAMETERS[kind](**fields))
    if kind == "dict":
        return {k: decode(v) for k, v in inside.items()}
    return {"tuple": tuple, "list": list}[kind](decode(each) for each in inside)


def _parameter(parameter: Range | Choice) -> Range | Choice:
    """The parameter; TypeError unless all its values are numbers."""
    if isinstance(parameter, Range):
        values: tuple[float, ...] = (parameter.low, parameter.high)
    else:
        values = parameter.values
    unseen = (parameter.held_out, parameter.validation, parameter.extrapolation)
    parts = (values, *(part or () for part in unseen))
    if wrong := [x for part in parts for x in part if type(x) not in (int, float)]:
        raise TypeError(f"{wrong[0]} is not a number")
    return parameter


def _texts(encoded: Any) -> Iterator[str]:
    """Strings in an encoded value, except units of parameters, which are only displayed."""
    if isinstance(encoded, str):
        yield encoded
    elif isinstance(encoded, list):
        for item in encoded:
            yield from _texts(item)
    elif isinstance(encoded, dict):
        inside = encoded.get("Choice") or encoded.get("Range")
        if isinstance(inside, dict):
            encoded = {k: v for k, v in inside.items() if k != "unit"}
        for item in encoded.values():
            yield from _texts(item)
