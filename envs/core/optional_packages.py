"""Optional dependencies."""

from __future__ import annotations

import importlib.util

from metarl.envs.core.errors import UsageError


def need(name: str, package: str, extra: str) -> None:
    """Raise UsageError with the installation command unless `package` is installed."""
    if importlib.util.find_spec(package) is None:
        raise UsageError(
            f'{name} needs {package}, which isn\'t installed: pip install "metarl-toolkit[{extra}]"'
        )
