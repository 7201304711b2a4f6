"""Parse a variant given as `gravity=-11 wind=2` into a task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from metarl.envs import Choice, Family, UsageError, make_task, parameters
from metarl.envs.core.family import allowed, check_parameter
from metarl.envs.core.parameters import Parameter


def parse_variant(family: Family, words: Sequence[str], flag: str = "--variant") -> Any:
    """One task, fields (1, 1), from `NAME=VALUE` words; other parameters take a training value.

    A name is that of a parameter, or as given to `--vary`: `gravity[2]`. A value is a number or,
    if the values of a `Choice` have labels, a label.

    Args:
        flag: named in errors.
    Raises:
        UsageError: no such parameter, a parameter given twice, or a value outside its range.
    """
    return make_task(family, **named_values(family, words, flag))


def named_values(family: Family, words: Sequence[str], flag: str = "--variant") -> dict[str, float]:
    """The given parameters and their values; arguments and errors as `parse_variant`."""
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


def _number(flag: str, parameter: Parameter, text: str) -> float:
    if isinstance(parameter, Choice) and parameter.labels:
        named = {parameter.show(v): v for v in (*parameter.values, *parameter.extrapolation)}
        if text not in named:
            raise UsageError(f"{flag}: give one of {', '.join(named)}.")
        return named[text]
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{flag}: give a number in {allowed(parameter)}.") from None


def _example(known: dict[str, Parameter]) -> str:
    name, parameter = next(iter(known.items()))
    value = parameter.default_value
    shown = parameter.show(value) if isinstance(parameter, Choice) else f"{value:g}"
    return f"{name}={shown}"
