"""An attribute is set while its environment is constructed, so that all that is computed follows.

`CartPole.__init__` computes `total_mass` from `masspole`: who changes the one must change the
other. Here the statement `self.masspole = 0.1` stores the value of the variant, and everything
after it, in the constructor, in helpers, in reset, reads that. What can't follow is a value that
was never read from the attribute: its constant has another name, or belongs to the class. So the
source of the assignment must show that it is a constant that nothing else has.
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
    """Stands in a class for one attribute while an environment of it is made.

    Whatever the constructor assigns, `value` is stored, or the product of both if it is `relative`.
    """

    def __init__(self, name: str, value: Any, relative: bool, owner: Owner) -> None:
        self.name, self.value, self.relative, self.owner = name, value, relative, owner
        self._places: list[tuple[str, int, Any]] = []  # file, line and value of each assignment
        self._trouble = ""
        self._was_read = False

    def install(self, cls: type) -> None:
        """Take the place of the class's own attribute of this name, if it has one."""
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
            self._trouble = "it is set, read, and set anew"
        frame = sys._getframe(1)
        self._places.append((frame.f_code.co_filename, frame.f_lineno, value))
        vars(env)[self.name] = self._wanted(value)

    def _wanted(self, value: Any) -> Any:
        return value * self.value if self.relative else self.value

    def conclude(self, env: Any) -> None:
        """Leave the value in the environment that was made.

        Raises:
            UsageError: something might have been computed from another value.
        """
        trouble = self._trouble
        if not isinstance(env, self.cls):
            trouble = f"some variants are of {type(env).__name__}, others of {self.cls.__name__}"
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
                trouble = trouble or "the constructor sets it past self.NAME = CONSTANT"
        if trouble:
            raise UsageError(
                f"'{self.name}' (attribute of {self.cls.__name__}): {trouble}, so that what is "
                f"computed from it may not follow: {ADVICE}."
            )


@contextmanager
def forced(attributes: Sequence[Forced]) -> Iterator[None]:
    """Make environments with these attributes.

    Raises:
        UsageError: the class isn't there, or nothing can be set in it.
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
    """Why an attribute of a class can't be set while it is constructed; empty if it can."""
    for method in ("__setattr__", "__getattribute__"):
        if getattr(cls, method) is not getattr(object, method):
            return f"{cls.__name__} has a {method} of its own"
    member = inspect.getattr_static(cls, name, None)
    if hasattr(type(member), "__get__") or hasattr(type(member), "__set__"):
        return f"it is a {type(member).__name__}, which may compute anything"
    return ""


@lru_cache
def _class(owner: Owner) -> type:
    """The class of this name, among those that there are, or in its module."""
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
