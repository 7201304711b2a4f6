"""Packages whose names are loaded when they are first used: torch alone takes over a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def loader(package: str, modules: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """`__getattr__` of a package (PEP 562), by the names that it takes from each module."""
    module_of = {name: module for module, names in modules.items() for name in names}

    def load(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(module_of[name]), name)

    return load
