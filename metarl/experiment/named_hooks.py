"""Callbacks and trackers: a user's functions and objects, also by the names of a run's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.config.named_code import trackers_in
from metarl.config.settings import RunConfig
from metarl.distributed.collectives import broadcast_from_rank_zero, is_rank_zero
from metarl.envs import UsageError
from metarl.envs.core.user_code import import_user_code
from metarl.outer.train_state import TrainState
from metarl.system.user_errors import report_errors_of
from metarl.tracking.trackers import Tracker, Values

if TYPE_CHECKING:
    from metarl.experiment.loaded_run import Run

# Called with each state; True stops training.
Callback = Callable[[TrainState], bool | None]


def check_hooks(run: RunConfig) -> None:
    """Raise UsageError for a callback or tracker that can't be imported, or called."""
    for name in run.callback:
        _named("--callback", name)
    for name in _own_trackers(run):
        _named("--track", name)


def trackers_of(run: Run) -> list[Tracker]:
    """The user's trackers that the settings name, each made with the run."""
    made: list[Tracker] = []
    for name in _own_trackers(run.run):
        with report_errors_of(f"tracker {name}"):
            made.append(NamedTracker(name, _named("--track", name)(run)))
    return made


def _own_trackers(run: RunConfig) -> list[str]:
    return [name for name in trackers_in(run.track) if ":" in name]


def _named(flag: str, name: str) -> Any:
    """What `module:attribute` names.

    Raises:
        UsageError: it can't be imported, isn't there, or can't be called.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_user_code(module), attribute)
    except (Exception, SystemExit) as error:  # whatever a user's module raises
        raise UsageError(
            f"{flag} {name}: {type(error).__name__}: {error}: give module:name, and start where "
            "the module can be imported."
        ) from error
    if not callable(found):
        raise UsageError(f"{flag} {name}: {type(found).__name__} can't be called; give another.")
    return found


class NamedTracker:
    """A user's tracker; an error in it is a RunError that names it."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._owner, self._tracker = f"tracker {name}", tracker

    def write(self, iteration: int, env_steps: int, metrics: Mapping[str, float]) -> None:
        with report_errors_of(self._owner):
            self._tracker.write(iteration, env_steps, metrics)

    def histograms(self, env_steps: int, values: Mapping[str, Values]) -> None:
        if hasattr(self._tracker, "histograms"):
            with report_errors_of(self._owner):
                self._tracker.histograms(env_steps, values)

    def sync(self) -> None:
        if hasattr(self._tracker, "sync"):
            with report_errors_of(self._owner):
                self._tracker.sync()

    def close(self) -> None:
        with report_errors_of(self._owner):
            self._tracker.close()


def stopping_rule(
    names: Sequence[str], callbacks: Sequence[Callback]
) -> Callable[[TrainState], str]:
    """A function that calls all callbacks with a state; the name of one that stops, or "".

    Rank 0 alone imports and calls them; the others get its answer, or its error.

    Args:
        names: `module:function`.
        callbacks: functions.
    """
    if not (names or callbacks):
        return lambda state: ""
    found: list[tuple[str, Callback]] = []
    if is_rank_zero():
        found = [(name, _named("--callback", name)) for name in names]
        found += [(_name_of(callback), callback) for callback in callbacks]
    return lambda state: broadcast_from_rank_zero(lambda: _who_stops(found, state))


def _name_of(callback: Callback) -> str:
    return str(getattr(callback, "__qualname__", None) or type(callback).__qualname__)


def _who_stops(callbacks: Sequence[tuple[str, Callback]], state: TrainState) -> str:
    """The first of those that return True; all are called."""
    stops = [name for name, callback in callbacks if _stops(name, callback, state)]
    return stops[0] if stops else ""


def _stops(name: str, callback: Callback, state: TrainState) -> bool:
    with report_errors_of(f"callback {name}"):
        answer = callback(state)
    if answer is not None and not isinstance(answer, bool | np.bool_):
        raise UsageError(
            f"callback {name} returned {answer!r:.40}: return True to stop training, else False or "
            "None."
        )
    return bool(answer)
