"""Several processes on one machine, by torch's elastic agent."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metarl.distributed.collectives import STORE, rank_variable
from metarl.envs import RunError
from metarl.system.signals import STOPPING

RESTARTS = 3  # of all processes, after one of them was killed
LOOPBACK = "127.0.0.1"
PARENT = "METARL_PARENT"  # process id of the launcher
POLL, GRACE = 0.5, 10.0  # s: between looks at the parent; for saving once it is gone


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
    return rank_variable("TORCHELASTIC_RESTART_COUNT", 0) > 0


def name_for_restarts() -> str | None:
    """The name that `torchrun` gives all starts of one job; None where it starts it only once."""
    if rank_variable("TORCHELASTIC_MAX_RESTARTS", 0) == 0:
        return None
    return os.environ["TORCHELASTIC_RUN_ID"]


@contextmanager
def _meeting_place() -> Iterator[Path]:
    """A folder of this user alone where the processes of one machine meet, anew for each start.

    torch's own store listens on every network interface, and unpickles what it is sent.
    """
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    with tempfile.TemporaryDirectory(prefix="metarl-") as place:  # mode 0700
        ours = {
            STORE: f"{place}/ranks",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
            "GLOO_SOCKET_IFNAME": loopback,
            "NCCL_SOCKET_IFNAME": loopback,
            PARENT: str(os.getpid()),
        }
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield Path(place)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def end_with_parent() -> None:
    """Stop this rank, its state saved, when the process that started it is gone."""
    parent = os.getppid()
    if parent != rank_variable(PARENT, parent):
        parent = -1  # it went before this rank got here

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)  # it hangs, in a call that waits for another rank

    threading.Thread(target=watch, daemon=True).start()


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
    # -P: the working folder may be someone else's run, and no place for modules.
    words = ["-P", "-m", "metarl", "train", "--resume", str(folder), *more]
    for restart in range(RESTARTS + 1):
        try:
            with _meeting_place() as place:
                config = LaunchConfig(
                    min_nodes=1,
                    max_nodes=1,
                    nproc_per_node=count,
                    max_restarts=0,
                    run_id=folder.name,
                    rdzv_backend="c10d",
                    rdzv_endpoint=f"{place}/launcher",
                    rdzv_configs={"store_type": "file"},
                    local_addr=LOOPBACK,
                    signals_to_handle=",".join(s.name for s in STOPPING),
                )
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
