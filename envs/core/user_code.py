"""Importing user code given as `module:attribute`."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType


def import_user_code(module: str) -> ModuleType:
    """Import a module, which may be in the working directory.

    The working directory is added to `sys.path` here rather than at startup, so that a command that
    names no user code imports nothing from there, such as a stray `mujoco.py`.
    """
    if "" not in sys.path:
        sys.path.append("")
    return importlib.import_module(module)
