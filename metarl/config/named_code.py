"""What `--track` and `--callback` may name: metarl's own trackers, and code as `module:name`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from metarl.envs import UsageError

TRACKERS = ("tensorboard", "csv", "none")
NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def trackers_in(track: str) -> tuple[str, ...]:
    """The comma-separated names of `--track`."""
    return tuple(name.strip() for name in track.split(","))


def check_track(track: str) -> None:
    """Raise UsageError unless `--track` names known trackers or `module:Class`, each once."""
    names = trackers_in(track)
    for name in names:
        if name not in TRACKERS and not NAME.fullmatch(name):
            raise UsageError(
                f"--track {track}: unknown tracker '{name}'; give some of {', '.join(TRACKERS)} or "
                "module:Class, with commas between them."
            )
    if len(set(names)) < len(names) or ("none" in names and len(names) > 1):
        raise UsageError(f"--track {track}: give each tracker once, and none alone.")


def check_callbacks(names: Iterable[str]) -> None:
    """Raise UsageError unless each `--callback` is `module:function`."""
    for name in names:
        if not NAME.fullmatch(name):
            raise UsageError(f"--callback {name}: give module:function.")
