"""Whether a run is compiled, and what that takes."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from metarl.agents.compilation import failures
from metarl.envs import UsageError
from metarl.training.meta_train import meta_train

if TYPE_CHECKING:
    from metarl.config.settings import RunConfig, TrainConfig
    from metarl.experiment.loaded_run import Run

# Steps that a run learns from, each as often as it is learned from: about ten minutes of two cores.
# Compiled it takes a fifth less time; compiling pays after three to seven (docs/performance.md).
LONG = 3e8


def check_compile(train: TrainConfig, run: RunConfig) -> None:
    """Raise UsageError where programs are asked for and there are none to make."""
    if run.compile == "on" and train.memory != "none":
        raise UsageError(
            f"--compile on with --memory {train.memory}: programs are made of agents whose weights "
            "adapt; leave it out."
        )


def worth_compiling(job: Run) -> bool:
    """What `--compile` says; for `auto`, whether the run is long enough.

    The whole of it counts, so that one that was interrupted goes on as it began.
    """
    cfg = job.train
    if job.run.compile != "auto":
        return job.run.compile == "on"
    if cfg.memory != "none" or cfg.outer not in ("gradient", "trpo"):
        return False
    if hasattr(job.family, "simulate"):  # most of the time goes to a simulator that stays as it is
        return False
    steps = cfg.tasks * cfg.episodes * job.family.horizon * (cfg.inner_steps + 1)
    return cfg.iterations * steps * cfg.epochs >= LONG


def can_compile(job: Run, say: Callable[[str], None]) -> bool:
    """Play one meta-iteration compiled, which changes nothing, and say how long that took.

    Programs are kept by torch between runs, so that it takes long only once.
    """
    began = time.perf_counter()
    once = dataclasses.replace(job.train, iterations=job.state.iteration + 1)
    try:
        deque(meta_train(once, job.family, job.state, compiled=True), maxlen=0)
    except failures() as error:
        reason = next(line for line in str(error).splitlines() if line.strip()).strip()
        say(f"not compiled, as that failed ({reason}); goes on without")
        return False
    say(f"compiled in {time.perf_counter() - began:.0f} s")
    return True
