"""What a family is made of, as JSON, so that a run is reopened on the family it was started on."""

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
OLD_NAMES = {"beyond": "extrapolation"}  # of fields, in records before version 0.2
PARAMETERS = {"Range": Range, "Choice": Choice}
PLAIN = (bool, int, float, str)
# Arguments of `GymnasiumFamily` that are kept as they are. Not kept are `workers` and
# `step_timeout`, which a run's settings give.
KEPT = ("live", "image", "name", "source", "about", "exact_replay")


class Unrecordable(Exception):
    """A value that JSON can't hold; the message names it."""


def family_record(train: TrainConfig, run: RunConfig, family: Family, given: bool) -> Record:
    """All fields of a family, or under `object` why they can't be recorded.

    Args:
        given: the family came as an object; otherwise `build_family` made it of the settings.
    """
    named: Any = _named(train, run) if given else family
    try:
        if isinstance(family, GymnasiumFamily):
            return _of_environment(family, named)
        if type(named) is not type(family):
            raise Unrecordable(f"its class isn't what '{train.family}' names")
        if not dataclasses.is_dataclass(family):
            if given:
                raise Unrecordable("its class is no dataclass, whose fields are known")
            return {}
        return {"fields": _fields(family, named)}
    except Unrecordable as reason:
        return {"object": str(reason)}


def recorded_family(train: TrainConfig, run: RunConfig, record: Record) -> Family:
    """The family that a run was started on.

    Raises:
        UsageError: as `build_family`; or its fields are not in the record, or not those of a family
            of this name.
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
            f"'{train.family}' can't be made as it was recorded ({error!r}): open the run in "
            "Python, with the family object: metarl.load(RUN, family=...)."
        ) from error


def texts(record: Record) -> list[str]:
    """All texts among the values that the family is made with, labels of parameters too."""
    parts = [record.get(part, {}) for part in ("fields", "vary", "fixed")]
    try:
        return [text for part in parts for text in _texts(part)]
    except RecursionError:
        raise UsageError("the record of the family is nested too deeply: restore it.") from None


def check_same(train: TrainConfig, family: Family, record: Record) -> None:
    """Raise UsageError unless a family object has the fields that a run was started with."""
    check_belongs(train, family)
    for name, told in record.get("fields", {}).items():
        was, now = decode(told), getattr(family, name, None)
        if not _equal(was, now):
            raise UsageError(
                f"this run was started on {family.name} with {name} {was}, not {now}: give a "
                "family that agrees."
            )


def check_belongs(train: TrainConfig, family: Family) -> None:
    """Raise UsageError where settings are those of another family."""
    module, _, name = train.family.rpartition(":")
    names = {family.name}
    if isinstance(family, GymnasiumFamily):
        names.add(family.env_config.spec.id)
    if module:  # the name of a class, or of a function that makes a family of any name
        named = getattr(sys.modules.get(module), name, None)
        fits = not isinstance(named, type) or isinstance(family, named) or issubclass(named, Env)
        fits = name in names or (not is_gymnasium_id(name) and fits)
    else:
        fits = name in names
    if not fits:
        raise UsageError(
            f"settings of '{train.family}' with the family '{family.name}': give "
            f"preset('{family.name}'), or the family that the settings are of."
        )


def _named(train: TrainConfig, run: RunConfig) -> Family | None:
    """What the settings name, if they name something."""
    try:
        return build_family(train, run)
    except UsageError:
        return None


def _fields(family: Any, named: Any) -> dict[str, Any]:
    """All fields; those that JSON can't hold may be left out where the name gives the same."""
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
    """Its type; a whole number may stand for any, and one kind of parameter for the other."""
    kind = {int: float, Range: Choice}
    return kind.get(type(value), type(value))


def _of_environment(family: GymnasiumFamily, named: Any) -> Record:
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
    """A `GymnasiumFamily` of its recorded arguments."""
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
    """A value as JSON, from which `decode` makes it again.

    Raises:
        Unrecordable: a value of another kind, such as a function.
    """
    if isinstance(value, np.number | np.bool_):
        value = value.item()
    if value is None or isinstance(value, PLAIN):
        return value
    if isinstance(value, Range | Choice):
        each = {f.name: encode(name, getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {type(value).__name__: each}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [encode(name, each) for each in value]}
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"dict": {k: encode(name, v) for k, v in value.items()}}
    raise Unrecordable(f"{name} is a {type(value).__name__}")


def decode(told: Any) -> Any:
    """What `encode` made this of; KeyError, TypeError or ValueError for anything else."""
    if not isinstance(told, dict):
        if isinstance(told, list):
            raise ValueError(told)
        return told
    ((kind, inside),) = told.items()
    if kind in PARAMETERS:
        fields = {OLD_NAMES.get(k, k): decode(v) for k, v in inside.items()}
        return _parameter(PARAMETERS[kind](**fields))
    if kind == "dict":
        return {k: decode(v) for k, v in inside.items()}
    return {"tuple": tuple, "list": list}[kind](decode(each) for each in inside)


def _parameter(made: Range | Choice) -> Range | Choice:
    """The parameter; TypeError unless it is made of numbers."""
    own = (made.low, made.high) if isinstance(made, Range) else made.values
    unseen = (made.held_out or (), made.validation or (), made.extrapolation or ())
    if wrong := [x for part in (own, *unseen) for x in part if type(x) not in (int, float)]:
        raise TypeError(f"{wrong[0]} is no number")
    return made


def _texts(told: Any) -> Iterator[str]:
    """Texts in what `encode` made; the unit of a parameter is for people."""
    if isinstance(told, str):
        yield told
    elif isinstance(told, list):
        for each in told:
            yield from _texts(each)
    elif isinstance(told, dict):
        inside = told.get("Choice") or told.get("Range")
        if isinstance(inside, dict):
            told = {k: v for k, v in inside.items() if k != "unit"}
        for each in told.values():
            yield from _texts(each)
