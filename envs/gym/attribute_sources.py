"""Checks in the source code that the value of an attribute is a constant without other uses."""

from __future__ import annotations

import ast
import linecache
import sys
from functools import lru_cache

MATHEMATICS = ("np", "numpy", "math", "float", "int")
ELSEWHERE = "computes it from other values, which may be used elsewhere too"
CONSTANT = (
    ast.Constant | ast.UnaryOp | ast.BinOp | ast.Call | ast.Attribute | ast.Name
    | ast.operator | ast.unaryop | ast.expr_context
)  # fmt: skip


@lru_cache
def trouble_at(file: str, line: int, name: str) -> str:
    """The problem with the statement that sets an attribute there; empty if there is none."""
    tree = _parsed(file)
    if tree is None:
        return f"the source of {file} can't be read"
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt)
        and node.lineno <= line <= (node.end_lineno or node.lineno)
        and not hasattr(node, "body")
    ]
    if not found:
        return f"no statement is found at line {line} of {file}"
    statement = min(found, key=lambda node: (node.end_lineno or 0) - node.lineno)
    value = _assigned(statement, name)
    if value is None or not _is_constant(value):
        shown = ast.unparse(statement).splitlines()[0]
        return f"{shown!r} {ELSEWHERE}"
    return ""


def _assigned(statement: ast.stmt, name: str) -> ast.expr | None:
    """The expression assigned to `self.name`, alone or in a tuple."""
    target, value = _sides(statement)
    if target is None:
        return None
    if isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
        pairs = list(zip(target.elts, value.elts, strict=False))
    else:
        pairs = [(target, value)] if value else []
    mine = [v for t, v in pairs if isinstance(t, ast.Attribute) and t.attr == name]
    return mine[0] if len(mine) == 1 and len(_elements(target)) == len(pairs) else None


def _elements(target: ast.expr) -> list[ast.expr]:
    """The targets of an assignment."""
    return list(target.elts) if isinstance(target, ast.Tuple | ast.List) else [target]


def _is_constant(value: ast.expr) -> bool:
    """Whether an expression has only literals and members of mathematical modules."""
    for node in ast.walk(value):
        if isinstance(node, ast.Name) and node.id not in MATHEMATICS:
            return False
        if not isinstance(node, CONSTANT):
            return False
    return True


@lru_cache
def trouble_in_classes(cls: type, name: str) -> str:
    """The first code that may use a class constant of this name; empty if there is none."""
    bases = [c for c in cls.__mro__ if c.__module__.partition(".")[0] not in ("builtins", "typing")]
    for base in bases:
        if base.__module__ == "gymnasium.core":
            continue
        module = sys.modules.get(base.__module__)
        tree = _parsed(getattr(module, "__file__", None) or "")
        if tree is None:
            return f"the source of {base.__name__} can't be read"
        if trouble := _uses(tree, name, {b.__qualname__ for b in bases}):
            return trouble
    return ""


def _uses(tree: ast.Module, name: str, classes: set[str]) -> str:
    """The first use of a class constant in a module other than `self.name` in a method."""
    for node in ast.walk(tree):
        elsewhere = isinstance(node, ast.Attribute) and node.attr == name
        if elsewhere and not (isinstance(node.value, ast.Name) and node.value.id == "self"):  # type: ignore[attr-defined]
            return f"{ast.unparse(node)!r} reads it"
        if isinstance(node, ast.Constant) and node.value == name:
            return f"the source has the string {name!r}, as for getattr"
        mine = isinstance(node, ast.ClassDef) and node.name in classes
        if mine and (trouble := _uses_in_body(node, name)):  # type: ignore[arg-type]
            return trouble
    return ""


def _uses_in_body(cls: ast.ClassDef, name: str) -> str:
    for statement in cls.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            outside = [*statement.decorator_list, *statement.args.defaults]
            outside += [d for d in statement.args.kw_defaults if d]
        else:
            outside = [statement]  # type: ignore[list-item]
        names = [n for part in outside for n in ast.walk(part) if isinstance(n, ast.Name)]
        if any(n.id == name and isinstance(n.ctx, ast.Load) for n in names):
            return f"{ast.unparse(outside[0]).splitlines()[0]!r} in the class reads it"
        if any(n.id == name for n in names) and not _sets_constant(statement, name):
            return f"{ast.unparse(statement)!r} {ELSEWHERE}"
        for node in ast.walk(statement):
            if _looks_into_classes(node):
                return f"{ast.unparse(node)!r} may read it"
    return ""


def _sets_constant(statement: ast.stmt, name: str) -> bool:
    target, value = _sides(statement)
    alone = isinstance(target, ast.Name) and target.id == name
    return alone and value is not None and _is_constant(value)


def _sides(statement: ast.stmt) -> tuple[ast.expr | None, ast.expr | None]:
    """The target and value of an assignment with one target; (None, None) otherwise."""
    if isinstance(statement, ast.AnnAssign):
        return statement.target, statement.value
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        return statement.targets[0], statement.value
    return None, None


def _looks_into_classes(node: ast.AST) -> bool:
    """Whether a node bypasses instance attributes, as `type(self)`, `__class__` or `vars` do."""
    if isinstance(node, ast.Attribute):
        return node.attr in ("__class__", "__dict__")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "type":
            return len(node.args) == 1 and getattr(node.args[0], "id", "") == "self"
        return node.func.id == "vars"
    return False


@lru_cache
def _parsed(file: str) -> ast.Module | None:
    source = "".join(linecache.getlines(file))
    try:
        return ast.parse(source) if source else None
    except SyntaxError:
        return None
