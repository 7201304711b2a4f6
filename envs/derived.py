"""What an environment's constructor computes from an attribute, so that it can be computed anew.

`CartPole.__init__` sets `total_mass` from `masspole`: who changes the one must change the other.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

from envs.errors import UsageError

Redo = Callable[[Any], None]  # environment -> None: brings it up to date


def derived(cls: type, name: str) -> Redo:
    """Repeat, after `name` was set, the statements of the constructors that depend on it.

    Raises:
        UsageError: a statement that can't be repeated: it needs an argument of the constructor, is
            conditional, or calls the constructor of a base class; or there is no source to read.
    """
    codes = [
        (code, init.__globals__)
        for base in reversed(cls.__mro__)
        if inspect.isfunction(init := vars(base).get("__init__"))
        and base.__module__ != "gymnasium.core"
        for code in _statements(cls, init, name)
    ]

    def redo(env: Any) -> None:
        space: dict[str, Any] = {"self": env}
        for code, names in codes:
            exec(code, names, space)

    return redo


def _statements(cls: type, init: Any, name: str) -> Iterator[CodeType]:
    """The dependent statements of one constructor, compiled, in order."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, TypeError, SyntaxError) as error:
        raise UsageError(
            f"'{name}': the source of {cls.__name__} can't be read, so nobody knows what else is "
            "computed from it: vary a keyword of make, or give a function (env, value)."
        ) from error
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)  # what getsource gives for a function
    arguments = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
    known = set(init.__globals__) | set(dir(builtins)) | {"self"}
    sources: dict[str, ast.stmt] = {}  # local name -> the statement that sets it
    stale = {f"self.{name}"}
    for statement in function.body:
        reads, writes = _reads(cls, statement), _writes(cls, statement)
        if f"self.{name}" in writes:
            continue
        if reads & stale:
            needed = _with_locals(statement, sources, stale, cls)
            simple = all(isinstance(s, ast.Assign | ast.AnnAssign | ast.Expr) for s in needed)
            free = {n for s in needed for n in _names(s, ast.Load)}
            bound = {n for s in needed for n in _names(s, ast.Store)}
            if not simple or (free - bound) & arguments - known or "super" in free:
                raise UsageError(
                    f"'{name}': {cls.__name__} computes {ast.unparse(statement).splitlines()[0]!r} "
                    "from it, which can't be done anew: vary a keyword of make, or give a function "
                    "(env, value)."
                )
            for s in needed:
                module = ast.Module([s], type_ignores=[])
                yield compile(module, f"<{cls.__name__}.__init__>", "exec")
            stale |= writes
        for local in _names(statement, ast.Store):
            sources[local] = statement


def _with_locals(
    statement: ast.stmt, sources: dict[str, ast.stmt], stale: set[str], cls: type
) -> list[ast.stmt]:
    """The statement, after those that set the local names it reads."""
    before = [
        each
        for local in sorted(_names(statement, ast.Load))
        if local in sources and local not in stale and sources[local] is not statement
        for each in _with_locals(sources[local], sources, stale, cls)
    ]
    return [*before, statement]


def _names(node: ast.AST, context: type[ast.expr_context]) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, context)}


def _reads(cls: type, node: ast.AST, depth: int = 5) -> set[str]:
    """Local names and `self.` attributes that a statement reads, methods it calls included."""
    return _names(node, ast.Load) | _attributes(cls, node, ast.Load, depth)


def _writes(cls: type, node: ast.AST, depth: int = 5) -> set[str]:
    return _names(node, ast.Store) | _attributes(cls, node, ast.Store, depth)


def _attributes(cls: type, node: ast.AST, context: type[ast.expr_context], depth: int) -> set[str]:
    found = set()
    for n in ast.walk(node):
        if not (isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)):
            continue
        if n.value.id != "self":
            continue
        if isinstance(n.ctx, context):
            found.add(f"self.{n.attr}")
        member = inspect.getattr_static(cls, n.attr, None)
        member = member.fget if isinstance(member, property) else member
        if depth and inspect.isfunction(member):
            try:
                body = ast.parse(textwrap.dedent(inspect.getsource(member)))
            except (OSError, TypeError, SyntaxError):
                continue
            found |= _attributes(cls, body, context, depth - 1)
    return found
