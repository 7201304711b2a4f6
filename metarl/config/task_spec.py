"""A variant in a user's words, `gravity=-11 wind=2`, as a task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from metarl.envs import Choice, Family, UsageError, make_task, parameters
from metarl.envs.core.family import allowed, check_parameter
from metarl.envs.core.parameters import Parameter


def parse_variant(family: Family, words: Sequence[str], flag: str = "--variant") -> Any:
    """One task, fields (1, 1), from `NAME=VALUE`s; parameters left out take a value of training's.

    A name is that of a parameter, or as it was given to `--vary`: `gravity[2]`. A value is a
    number or, where the values of a set have labels, one of these.

    Args:
        flag: for errors.
    Raises:
        UsageError: no such parameter, one that is named twice, or a value that it can't have.
    """
    return make_task(family, **named_values(family, words, flag))


def named_values(family: Family, words: Sequence[str], flag: str = "--variant") -> dict[str, float]:
    """The parameters that are named, and their values; arguments and errors as above."""
    known = parameters(family)
    values: dict[str, float] = {}
    for each in words:
        name, equals, text = (part.strip() for part in each.partition("="))
        if not (name and equals and text):
            raise UsageError(f"{flag} {each}: give NAME=VALUE, such as {_example(known)}.")
        name = name if name in known else re.sub(r"\W+", "_", name).strip("_")
        if name in values:
            raise UsageError(f"{flag} {each}: {name} is given twice; leave out one of them.")
        if name not in known:
            check_parameter(family.name, known, name, 0)
        values[name] = _number(f"{flag} {each}", known[name], text)
    return values


def _number(said: str, parameter: Parameter, text: str) -> float:
    if isinstance(parameter, Choice) and parameter.labels:
        named = {parameter.show(v): v for v in (*parameter.values, *parameter.extrapolation)}
        if text not in named:
            raise UsageError(f"{said}: give one of {', '.join(named)}.")
        return named[text]
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{said}: give a number in {allowed(parameter)}.") from None


def _example(known: dict[str, Parameter]) -> str:
    name, parameter = next(iter(known.items()))
    defaults = parameter.default_value
    shown = parameter.show(defaults) if isinstance(parameter, Choice) else f"{defaults:g}"
    return f"{name}={shown}"
