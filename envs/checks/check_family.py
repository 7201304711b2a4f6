"""Checks a family against the contract that metarl's built-in families satisfy."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from gymnasium.utils.env_checker import check_env

from metarl.envs.adapters.gym_env import GymView
from metarl.envs.checks.contract import (
    check_first_observation,
    check_observations,
    check_parameters,
    check_repeats,
    check_rows,
    check_shapes,
    check_tasks,
)
from metarl.envs.core.errors import UsageError
from metarl.envs.core.family import Family


def check_family(
    family: Family, *, live: Sequence[str] = (), visible: Sequence[str] = ()
) -> tuple[str, ...]:
    """Check a family against the contract, and return the names of the rules.

    Args:
        live: parameters with an effect that random actions don't show.
        visible: parameters that the first observation may reveal, in addition to those in the
            family's attribute `visible`.

    Raises:
        UsageError: the first violated rule, and what to change.
    """
    shown = (*getattr(family, "visible", ()), *visible)
    rules: dict[str, Callable[[], None]] = {
        "shapes and types": lambda: check_shapes(family),
        "tasks in their ranges": lambda: check_tasks(family),
        "observations in their space, finite rewards": lambda: check_observations(family),
        "the same episode from the same noise": lambda: check_repeats(family),
        "rows of a batch are independent": lambda: check_rows(family),
        "every parameter has an effect": lambda: check_parameters(family, tuple(live)),
        "the first observation hides the task": lambda: check_first_observation(family, shown),
        "Gymnasium's checker": lambda: check_view(family),
    }
    for rule, holds in rules.items():
        try:
            holds()
        except UsageError:
            raise
        except (Exception, SystemExit) as error:  # whatever a user's family may raise
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise UsageError(f"{family.name}: the check of '{rule}' raised {said}.") from error
    return tuple(rules)


def check_view(family: Any) -> None:
    """Raise UsageError if Gymnasium's checker rejects the environment of a task."""
    if hasattr(family, "simulate"):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # recommendations, such as bounded spaces
        try:
            check_env(GymView(family), skip_render_check=True)
        except Exception as error:  # the checker raises AssertionError and others
            said = " ".join(str(error).split())
            raise UsageError(f"{family.name}: Gymnasium's checker says: {said}") from error
