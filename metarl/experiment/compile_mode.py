"""Decide whether a run is compiled with `torch.compile`."""

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

# Environment steps times epochs: about ten minutes on two cores. Compiled, such a run takes a fifth
# less time; compiling pays off after three to seven minutes (docs/performance.md).
LONG = 3e8


def check_compile(train: TrainConfig, run: RunConfig) -> None:
    """Raise UsageError for `--compile on` with an agent that can't be compiled."""
    if run.compile == "on" and train.memory != "none":
        raise UsageError(
            f"--compile on with --memory {train.memory}: only agents that adapt their weights can "
            "be compiled; leave it out."
        )


def worth_compiling(job: Run) -> bool:
    """Whether to compile: as `--compile` says; for `auto`, if the run is long enough.

    The length of the whole run counts, so that a resumed run continues in the same mode.
    """
    cfg = job.train
    if job.run.compile != "auto":
        return job.run.compile == "on"
    if cfg.memory != "none" or cfg.outer not in ("gradient", "trpo"):
        return False
    if hasattr(job.family, "simulate"):  # the simulator, which isn't compiled, dominates the time
        return False
    steps = cfg.tasks * cfg.episodes * job.family.horizon * (cfg.inner_steps + 1)
    return cfg.iterations * steps * cfg.epochs >= LONG


def can_compile(job: Run, say: Callable[[str], None]) -> bool:
    """Run one compiled meta-iteration, discard its result, and report the compile time.

    torch caches compiled graphs between runs, so later runs compile faster.
    """
    start = time.perf_counter()
    once = dataclasses.replace(job.train, iterations=job.state.iteration + 1)
    try:
        deque(meta_train(once, job.family, job.state, compiled=True), maxlen=0)
    except failures() as error:
        reason = next(line for line in str(error).splitlines() if line.strip()).strip()
        say(f"compilation failed ({reason}); continuing without it")
        return False
    say(f"compiled in {time.perf_counter() - start:.0f} s")
    return True
