"""What a task is. Knows nothing of learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envs.lazy import loader

if TYPE_CHECKING:
    from envs.acrobot import Acrobot
    from envs.errors import RunError, UsageError
    from envs.family import (
        Family,
        describe,
        folded,
        make_task,
        parameters,
        sample_tasks,
        task_values,
        unseen,
    )
    from envs.gym_view import GymView
    from envs.gymnasium_family import GymnasiumFamily
    from envs.parameter import Choice, Range
    from envs.registry import FAMILIES, gymnasium_id, make_family
    from envs.simulator import Simulator, TensorSimulator, can_be_filmed, probe, simulate
    from envs.split import SPLITS, Split
else:  # the same, when they are needed
    __getattr__ = loader(
        __name__,
        {
            "envs.acrobot": ("Acrobot",),
            "envs.errors": ("RunError", "UsageError"),
            "envs.family": (
                "Family",
                "describe",
                "folded",
                "make_task",
                "parameters",
                "sample_tasks",
                "task_values",
                "unseen",
            ),
            "envs.gym_view": ("GymView",),
            "envs.gymnasium_family": ("GymnasiumFamily",),
            "envs.parameter": ("Choice", "Range"),
            "envs.registry": ("FAMILIES", "gymnasium_id", "make_family"),
            "envs.simulator": (
                "Simulator",
                "TensorSimulator",
                "can_be_filmed",
                "probe",
                "simulate",
            ),
            "envs.split": ("SPLITS", "Split"),
        },
    )

__all__ = [
    "FAMILIES",
    "SPLITS",
    "Acrobot",
    "Choice",
    "Family",
    "GymView",
    "GymnasiumFamily",
    "Range",
    "RunError",
    "Simulator",
    "Split",
    "TensorSimulator",
    "UsageError",
    "can_be_filmed",
    "describe",
    "folded",
    "gymnasium_id",
    "make_family",
    "make_task",
    "parameters",
    "probe",
    "sample_tasks",
    "simulate",
    "task_values",
    "unseen",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
