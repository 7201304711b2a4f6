"""Packages that not everyone has installed."""

from __future__ import annotations

import importlib.util

from metarl.envs.core.errors import UsageError


def need(name: str, package: str, extra: str) -> None:
    """Raise UsageError with the command that installs it, unless a package is there."""
    if importlib.util.find_spec(package) is None:
        raise UsageError(
            f'{name} needs {package}, which isn\'t here: pip install "metarl-toolkit[{extra}]"'
        )
