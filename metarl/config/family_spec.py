"""Build a family from `--vary`, `--hold-out`, `--validation`, `--extrapolate` and `--set`."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from metarl.config.settings import RunConfig, TrainConfig
from metarl.envs import Choice, Family, GymnasiumFamily, Range, UsageError, make_family
from metarl.envs.core.family import parameters
from metarl.envs.core.parameters import Parameter
from metarl.envs.core.user_code import import_user_code
from metarl.envs.gym.parameter_setters import SetValue, keyword_defaults
from metarl.envs.gym.specs import environment_class, find_spec

HOW = "give NAME=LOW:HIGH, with :log or :int after it if wanted, or NAME=A,B,C"


def build_family(train: TrainConfig, run: RunConfig) -> Family:
    """The family that a run's settings specify.

    Raises:
        UsageError: unknown family, environment or parameter, or invalid values.
    """
    vary = dict(_pair("--vary", words) for words in train.vary)
    ranges = {name: _parameter(name, value) for name, value in vary.items()}
    fixed = {k: _value(v) for k, v in (_pair("--set", words) for words in train.set)}
    family: Any
    name = train.family
    if environment := name if is_gymnasium_id(name) else environment_class(name):
        ranges = _unseen(train, ranges)
        functions = {name: _function(name) for name in ranges if ":" in name}
        fixed = _as_words(environment, train.set, fixed)
        family = GymnasiumFamily(
            environment,
            ranges,
            fixed=fixed,
            functions=functions,
            live=train.live,
            image=train.image,
        )
    else:
        family = make_family(train.family)
        if ranges or fixed or train.hold_out or train.validation or train.extrapolate:
            family = _changed(family, train, ranges, fixed)
        for flag, value in (("--live", " ".join(train.live)), ("--image", train.image)):
            if value not in ("", "auto"):
                raise UsageError(
                    f"{flag} {value}: {train.family} is not a Gymnasium id: leave it out, or give "
                    "the id of an environment."
                )
    if isinstance(family, GymnasiumFamily):
        family.workers, family.step_timeout = run.workers, run.step_timeout
        family.exact_replay = run.exact_replay
    elif not run.exact_replay:
        raise UsageError(
            f"--no-exact-replay: {family.name} is not a Gymnasium environment, and is always "
            "reproducible: leave it out."
        )
    return family  # type: ignore[no-any-return]


def _as_words(
    environment: str | EnvSpec, given: tuple[str, ...], fixed: dict[str, Any]
) -> dict[str, Any]:
    """The constants; `none`, `true` and `false` stay strings if the default is a string."""
    defaults = keyword_defaults(find_spec(environment, ())[0])
    text = dict(_pair("--set", words) for words in given)
    return {
        k: text[k] if isinstance(defaults.get(k), str) and isinstance(v, bool | None) else v
        for k, v in fixed.items()
    }


def is_gymnasium_id(name: str) -> bool:
    """`LunarLander-v3`, `ALE/Pong-v5`, `my.module:Mine-v0`, or any registered id."""
    named = re.fullmatch(r"([\w.]+:)?([\w.-]+/)?[\w.()-]+-v\d+", name)
    return named is not None or name in gymnasium.registry


def _changed(
    family: Any, train: TrainConfig, ranges: dict[str, Parameter], fixed: dict[str, Any]
) -> Any:
    """A named family with other ranges or constants."""
    if isinstance(family, GymnasiumFamily):
        return family.changed(_unseen(train, {**family.vary, **ranges}), fixed)
    known = parameters(family)
    for name in ranges:
        if name not in known:
            raise UsageError(
                f"--vary {name}: {family.name} has no such parameter: give one of "
                f"{', '.join(known)}."
            )
    ranges = {k: dataclasses.replace(v, unit=known[k].unit) for k, v in ranges.items()}
    changed = _unseen(train, {**known, **ranges})
    new = {k: v for k, v in changed.items() if v != known[k]}
    if new and hasattr(family, "members"):
        raise UsageError(
            f"{family.name} has a fixed set of tasks: leave out --vary, --hold-out, --validation "
            "and --extrapolate."
        )
    fields = {f.name for f in dataclasses.fields(family)}
    for name in {**new, **fixed}:
        if name not in fields or (name in fixed and name in known):
            raise UsageError(
                f"{family.name}: '{name}' can't be set: give with --set one of "
                f"{', '.join(sorted(fields - set(known))) or 'nothing'}."
            )
    for name, value in fixed.items():
        was = getattr(family, name)
        kind = float if isinstance(was, float) else type(was)
        if not (type(value) is kind or (kind is float and type(value) is int)):
            raise UsageError(f"--set {name}={value}: give {kind.__name__}, such as {was}.")
    return dataclasses.replace(family, **new, **fixed)


def _unseen(train: TrainConfig, ranges: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The parameters with the values that training must not see."""
    changed = dict(ranges)
    parts: dict[str, dict[str, Any]] = defaultdict(dict)
    given: dict[str, list[str]] = defaultdict(list)
    for flag, field, words in (
        ("--hold-out", "held_out", train.hold_out),
        ("--validation", "validation", train.validation),
        ("--extrapolate", "extrapolation", train.extrapolate),
    ):
        for name, text in (_pair(flag, each) for each in words):
            if name not in changed:
                raise UsageError(
                    f"{flag} {name}: not a parameter that varies: give one of {', '.join(changed)}."
                )
            flags = f"{flag} {name}={text}"
            given[name].append(flags)
            parts[name] |= _part(flags, changed[name], text, field)
    for name, part in parts.items():  # set all fields at once: they are validated together
        try:
            changed[name] = dataclasses.replace(changed[name], **part)
        except UsageError as error:
            raise UsageError(f"{' '.join(given[name])}: {error}") from error
    return changed


def _part(flag: str, known: Parameter, text: str, field: str) -> dict[str, Any]:
    """The field of a parameter that a hold-out, validation or extrapolation flag sets."""
    if isinstance(known, Range):
        given = _parameter(flag, text)
        if not isinstance(given, Range):
            raise UsageError(f"{flag}: give LOW:HIGH, as it varies over a range.")
        return {field: (given.low, given.high)}
    values = [_value(word) for word in _words(text)]
    if not known.labels:
        if wrong := [v for v in values if type(v) not in (int, float)]:
            raise UsageError(f"{flag}: '{wrong[0]}' is not a number: give some of {known}.")
        return {field: tuple(map(float, values))}
    new = field == "extrapolation"
    labels = known.labels + tuple(v for v in values if v not in known.labels and new)
    if wrong := [v for v in values if v not in labels]:
        raise UsageError(f"{flag}: unknown value '{wrong[0]}': give some of {known}.")
    return {field: tuple(float(labels.index(v)) for v in values), "labels": labels}


def _pair(flag: str, words: str) -> tuple[str, str]:
    name, equals, value = words.partition("=")
    if not (name.strip() and equals and value.strip()):
        how = "give NAME=VALUE" if flag == "--set" else HOW
        raise UsageError(f"{flag} {words}: {how}.")
    return name.strip(), value.strip()


def _parameter(name: str, text: str) -> Parameter:
    """`-12:-4`, `0.1:1:log`, `1:9:int` or `a,b,c`."""
    flag = name if name.startswith("--") else f"--vary {name}={text}"
    words = text.split(":")
    if len(words) > 1:
        low, high, *kinds = words
        numbers = [_value(low), _value(high)]
        if not all(type(x) in (int, float) for x in numbers) or set(kinds) - {"log", "int"}:
            raise UsageError(f"{flag}: {HOW}.")
        try:
            integer, log = "int" in kinds, "log" in kinds
            return Range(float(numbers[0]), float(numbers[1]), integer=integer, log=log)
        except UsageError as error:
            raise UsageError(f"{flag}: {error}") from error
    values = [_value(word) for word in _words(text)]
    if any(v in values[:i] for i, v in enumerate(values)) or len(values) < 2:
        raise UsageError(f"{flag}: {HOW}, two different values or more.")
    if all(type(v) in (int, float) for v in values):
        return Choice(tuple(map(float, values)))
    return Choice(tuple(map(float, range(len(values)))), labels=tuple(values))


def _words(text: str) -> list[str]:
    """Split `a,b,c` or `[0,1],[1,0]` at the commas outside brackets."""
    words, depth = [""], 0
    for letter in text:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and not depth:
            words.append("")
        else:
            words[-1] += letter
    return words


def _value(word: str) -> Any:
    """Parse an int, a float, true, false, none or a list `[0, 1]`; else the word itself."""
    word = word.strip()
    if word[:1] == "[":
        try:
            return ast.literal_eval(word)
        except (ValueError, SyntaxError) as error:
            raise UsageError(f"{word}: not a list: give one such as [0,1] or ['a','b'].") from error
    for kind in (int, float):
        try:
            number = kind(word)
        except ValueError:
            continue
        if math.isfinite(number):  # nan and inf stay strings: no parameter can have these values
            return number
    return {"true": True, "false": False, "none": None}.get(word.lower(), word)


def _function(name: str) -> SetValue:
    module, _, attribute = name.partition(":")
    try:
        function: SetValue = getattr(import_user_code(module), attribute)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise UsageError(
            f"--vary {name}: {type(error).__name__}: {error}: give module:function, called "
            "with (env, value)."
        ) from error
    return function
