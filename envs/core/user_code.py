"""Code that a user names: `module:attribute`."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType


def import_user_code(module: str) -> ModuleType:
    """The module of that name, which may lie in the working folder.

    The working folder joins Python's path here, and not when a command starts: a command that names
    no code imports nothing from there, such as a `mujoco.py` in a run folder that it is started in.
    """
    if "" not in sys.path:
        sys.path.append("")
    return importlib.import_module(module)
