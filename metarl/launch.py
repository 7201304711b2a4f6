"""Several processes on one machine, by torch's elastic agent."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

from envs import RunError

RESTARTS = 3  # of all processes, after one of them was killed


def by_torchrun() -> bool:
    """Whether this process is one of several already."""
    return "WORLD_SIZE" in os.environ


def leave(code: int) -> None:
    """End this rank at once, without winding Python up.

    Threads of torch may abort a process then: a rank once ended with "terminate called without an
    active exception".
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def restarted() -> bool:
    """Whether `torchrun` started this process anew after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def name_for_restarts() -> str | None:
    """The name that `torchrun` gives all starts of one job; None where it starts it only once."""
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) == 0:
        return None
    return os.environ["TORCHELASTIC_RUN_ID"]


def go_on_together(folder: Path, count: int, more: list[str]) -> int:
    """Train the run in a folder, which was started, with `count` processes; the exit code.

    When one of them is killed, all start again from the last checkpoint, a few times at most. The
    same by hand: `torchrun --standalone --nproc-per-node COUNT -m metarl train --resume FOLDER`.

    Raises:
        RunError: they were killed too often.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        max_restarts=0,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
    )
    # -P: the working folder may be someone else's run, and no place for modules.
    words = ["-P", "-m", "metarl", "train", "--resume", str(folder), *more]
    for restart in range(RESTARTS + 1):
        try:
            elastic_launch(config, sys.executable)(*words)
            return 0
        except SignalException:
            return 128 + signal.SIGINT
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if failure.exitcode >= 0:  # it has said itself what went wrong
                return failure.exitcode
            name = signal.Signals(-failure.exitcode).name
        if restart < RESTARTS:
            print(
                f"metarl: rank {rank} was killed by {name}: all start again from the last "
                "checkpoint",
                file=sys.stderr,
            )
    raise RunError(
        f"rank {rank} was killed by {name}, after {RESTARTS} restarts: give the processes more "
        f"memory, or fewer tasks at once with --task-chunk; go on with: metarl train --resume "
        f"{folder}"
    )
