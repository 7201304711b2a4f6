"""Setting attributes during the construction of an environment, so that derived values follow.

`CartPole.__init__` computes `total_mass` from `masspole`, so a later change of `masspole` alone
would be inconsistent. Instead, while the environment is constructed, the statement
`self.masspole = 0.1` stores the value of the variant, and all code that runs later reads it.
Values that weren't computed from the attribute can't follow, for example if the constant has
another name or belongs to the class. Therefore the source of the assignment must show that its
value is a constant without other uses.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import gymnasium

from metarl.envs.core.errors import UsageError
from metarl.envs.gym.attribute_sources import trouble_at, trouble_in_classes

ABSENT = object()
ADVICE = "vary a keyword of make, or give module:function, which is called with (env, value)"
Owner = tuple[str, str]  # module and qualified name of a class


class Forced:
    """A descriptor that replaces an attribute while an environment is constructed.

    Whatever the constructor assigns, it stores `value`, or with `relative` the product of both.
    """

    def __init__(self, name: str, value: Any, relative: bool, owner: Owner) -> None:
        self.name, self.value, self.relative, self.owner = name, value, relative, owner
        self._places: list[tuple[str, int, Any]] = []  # file, line and value of each assignment
        self._trouble = ""
        self._was_read = False

    def install(self, cls: type) -> None:
        """Replace the attribute of this name in the class."""
        self.cls, self._hidden = cls, vars(cls).get(self.name, ABSENT)
        self._default = inspect.getattr_static(cls, self.name, ABSENT)
        setattr(cls, self.name, self)

    def remove(self) -> None:
        if self._hidden is ABSENT:
            delattr(self.cls, self.name)
        else:
            setattr(self.cls, self.name, self._hidden)

    def __get__(self, env: Any, cls: type) -> Any:
        if env is None:
            self._trouble = f"{cls.__name__}.{self.name} is read from the class"
            return self._default
        self._was_read = True
        if self.name in vars(env):
            return vars(env)[self.name]
        if self._default is ABSENT:
            raise AttributeError(f"{cls.__name__!r} object has no attribute {self.name!r}")
        return self._wanted(self._default)

    def __set__(self, env: Any, value: Any) -> None:
        if self._was_read and self._places and self._places[-1][2] != value:
            self._trouble = "it is set, read, and set again"
        frame = sys._getframe(1)
        self._places.append((frame.f_code.co_filename, frame.f_lineno, value))
        vars(env)[self.name] = self._wanted(value)

    def _wanted(self, value: Any) -> Any:
        return value * self.value if self.relative else self.value

    def conclude(self, env: Any) -> None:
        """Check the assignments, and set the value if the constructor didn't.

        Raises:
            UsageError: other values may have been computed from a different value.
        """
        trouble = self._trouble
        if not isinstance(env, self.cls):
            trouble = f"variants are of {type(env).__name__} or {self.cls.__name__}"
        elif self._default is not ABSENT:
            trouble = trouble or trouble_in_classes(type(env), self.name)  # type: ignore[arg-type]
            if not self._places:
                vars(env)[self.name] = self._wanted(self._default)
        elif not self._places:
            trouble = trouble or "no statement of the form self.NAME = CONSTANT sets it"
        if self._places:
            file, line, value = self._places[-1]
            trouble = trouble or trouble_at(file, line, self.name)
            if vars(env).get(self.name, ABSENT) != self._wanted(value):
                trouble = trouble or "the constructor sets it other than by self.NAME = CONSTANT"
        if trouble:
            raise UsageError(
                f"'{self.name}' (attribute of {self.cls.__name__}): {trouble}, so values computed "
                f"from it may not follow: {ADVICE}."
            )


@contextmanager
def forced(attributes: Sequence[Forced]) -> Iterator[None]:
    """Force these attributes in environments made inside this context.

    Raises:
        UsageError: a class doesn't exist, or its attributes can't be set.
    """
    installed: list[Forced] = []
    try:
        for attribute in attributes:
            try:
                attribute.install(_class(attribute.owner))
            except (TypeError, LookupError) as error:
                raise UsageError(f"'{attribute.name}': {error}: {ADVICE}.") from error
            installed.append(attribute)
        yield
    finally:
        for attribute in reversed(installed):
            attribute.remove()


def refused(cls: type, name: str) -> str:
    """Why an attribute can't be set during construction; empty if it can."""
    for method in ("__setattr__", "__getattribute__"):
        if getattr(cls, method) is not getattr(object, method):
            return f"{cls.__name__} overrides {method}"
    member = inspect.getattr_static(cls, name, None)
    if hasattr(type(member), "__get__") or hasattr(type(member), "__set__"):
        return f"it is a {type(member).__name__}, which may compute anything"
    return ""


@lru_cache
def _class(owner: Owner) -> type:
    """The class of this name; imports its module if needed."""
    found = _loaded(owner)
    if found is None:
        __import__(owner[0])
        found = _loaded(owner)
    if found is None:
        raise LookupError(f"no class {'.'.join(owner)}")
    return found


def _loaded(owner: Owner) -> type | None:
    classes: list[type] = [gymnasium.Env]
    for cls in classes:
        if (cls.__module__, cls.__qualname__) == owner:
            return cls
        classes += cls.__subclasses__()
    return None
