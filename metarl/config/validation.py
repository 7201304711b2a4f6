"""Bounds of settings as annotations, and their validation."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tyro.conf import arg

from metarl.envs import UsageError
from metarl.envs.core.precision import FLOAT32_MAX, FLOAT32_TINY, INT64_MAX, fits_float32


@dataclass(frozen=True)
class OneOf:
    """Allowed values of a string: the keys of a table, `module:TABLE`.

    The table is imported lazily: user code may extend it, and its functions may need torch.
    """

    table: str

    def names(self) -> list[str]:
        module, _, table = self.table.partition(":")
        return list(getattr(import_module(module), table))


@dataclass(frozen=True)
class Within:
    """Closed interval of a number, or of each number in a tuple."""

    low: float
    high: float = math.inf

    def __str__(self) -> str:
        return f"in [{self.low:g}, {self.high:g}]" if self.high < math.inf else f">= {self.low:g}"

    def holds(self, n: float) -> bool:
        """Whether a number lies in the interval; never true for infinity."""
        return self.low <= n <= self.high and abs(n) < math.inf


def check(settings: Any) -> None:
    """Raise UsageError, naming flag, value and allowed values, for the first invalid setting."""
    hints = get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        kind, *extras = get_args(hints[field.name])
        flag = "--" + field.name.replace("_", "-")
        for names in (e.names() for e in extras if isinstance(e, OneOf)):
            if value not in names:
                raise UsageError(f"{flag} {value}: unknown; give one of {', '.join(names)}.")
        for bound in (e for e in extras if isinstance(e, Within)):
            for n in value if isinstance(value, tuple) else (value,):
                if isinstance(n, int | float) and not bound.holds(n):
                    raise UsageError(f"{flag} {_short(n)}: out of range; give a value {bound}.")
        _check_kind(flag, value, kind)
        for n in value if isinstance(value, tuple) else (value,):
            _check_type(flag, n, real=kind is float)


def _check_type(flag: str, n: Any, real: bool) -> None:
    """Raise UsageError unless a number is representable in float32 or int64."""
    if real and not fits_float32(n):
        raise UsageError(
            f"{flag} {_short(n)}: not representable in float32; give 0, or a number from "
            f"{FLOAT32_TINY:.3g} to {FLOAT32_MAX:.3g}."
        )
    if type(n) is int and abs(n) > INT64_MAX:
        raise UsageError(f"{flag} {_short(n)}: exceeds 64 bits; give at most {INT64_MAX}.")


def _short(n: float) -> str:
    """A number for display; Python refuses to print integers of more than 4300 digits."""
    return str(n) if isinstance(n, float) or abs(n) < 10**30 else f"of {n.bit_length()} bits"


def _check_kind(flag: str, value: Any, kind: Any) -> None:
    """Raise UsageError unless the value has the annotated type; a bool is not a number."""
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise UsageError(f"{flag} {value}: unknown; give one of {', '.join(get_args(kind))}.")
    is_int = isinstance(value, int) and not isinstance(value, bool)
    valid = {
        int: is_int,
        float: is_int or isinstance(value, float),
        bool: isinstance(value, bool),
        str: isinstance(value, str),
        tuple[int, ...]: isinstance(value, tuple) and all(type(n) is int for n in value),
        tuple[str, ...]: isinstance(value, tuple) and all(type(n) is str for n in value),
    }
    if not valid.get(kind, True):
        raise UsageError(f"{flag} {value}: wrong type; give {getattr(kind, '__name__', kind)}.")


def number(help: str, low: float, high: float = math.inf) -> tuple[Any, Within]:
    """Annotations of a number: help text with its range, and the range."""
    bound = Within(low, high)
    return arg(help=f"{help}; {bound}"), bound


def name_in(table: str, help: str) -> tuple[Any, OneOf]:
    """Annotations of a name: help text, and the table of allowed names."""
    return arg(help=help), OneOf(table)
