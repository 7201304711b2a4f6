"""Agents that learn a new variant of their world within a few episodes.

The public names, each loaded when it is first used; everything else may change between versions.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

# Threads that wait for each other by spinning stall when another process wants their core: a
# meta-iteration took 0.93 s instead of 0.13 s. Spinning briefly, then sleeping, costs nothing when
# alone and takes 0.29 s there. OpenMP reads this once, when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

for _name in ("envs", "agents"):
    _spec = find_spec(_name)
    if _spec is None or Path(_spec.origin or "").parent.parent != Path(__file__).parent.parent:
        _where = _spec and (_spec.origin or list(_spec.submodule_search_locations or ()))
        raise ImportError(
            f"another '{_name}' ({_where}) hides metarl's own: rename it, or start where it isn't "
            "on Python's path."
        )

from envs.gym_ids import register
from envs.lazy import loader

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.policy import MLP
    from agents.rollout import Rollout
    from agents.streams import stream
    from envs import (
        FAMILIES,
        Choice,
        Family,
        GymnasiumFamily,
        Range,
        RunError,
        UsageError,
        make_family,
        make_task,
        parameters,
        sample_tasks,
    )
    from metarl.config import RunConfig, TrainConfig
    from metarl.evaluation import Evaluation, evaluate
    from metarl.first_agent import new_agent
    from metarl.meta_training import meta_train
    from metarl.presets import preset
    from metarl.run import conclude, load, open_run, start, train_in
    from metarl.sb3 import to_sb3, to_vec_env
    from metarl.state import TrainState
    from metarl.tracking import Tracker
else:  # the same, when they are needed
    __getattr__ = loader(
        __name__,
        {
            "agents.agent": ("Agent",),
            "agents.policy": ("MLP",),
            "agents.rollout": ("Rollout",),
            "agents.streams": ("stream",),
            "envs": (
                "FAMILIES",
                "Choice",
                "Family",
                "GymnasiumFamily",
                "Range",
                "RunError",
                "UsageError",
                "make_family",
                "make_task",
                "parameters",
                "sample_tasks",
            ),
            "metarl.config": ("RunConfig", "TrainConfig"),
            "metarl.evaluation": ("Evaluation", "evaluate"),
            "metarl.first_agent": ("new_agent",),
            "metarl.meta_training": ("meta_train",),
            "metarl.presets": ("preset",),
            "metarl.run": ("conclude", "load", "open_run", "start", "train_in"),
            "metarl.sb3": ("to_sb3", "to_vec_env"),
            "metarl.state": ("TrainState",),
            "metarl.tracking": ("Tracker",),
        },
    )

__all__ = [
    "FAMILIES",
    "MLP",
    "Agent",
    "Choice",
    "Evaluation",
    "Family",
    "GymnasiumFamily",
    "Range",
    "Rollout",
    "RunConfig",
    "RunError",
    "Tracker",
    "TrainConfig",
    "TrainState",
    "UsageError",
    "conclude",
    "evaluate",
    "load",
    "make_family",
    "make_task",
    "meta_train",
    "new_agent",
    "open_run",
    "parameters",
    "preset",
    "sample_tasks",
    "start",
    "stream",
    "to_sb3",
    "to_vec_env",
    "train_in",
]

register()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
