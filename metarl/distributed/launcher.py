"""Start several processes on one machine with torch's elastic agent."""

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

RESTARTS = 3  # how often all processes restart after one of them was killed
LOOPBACK = "127.0.0.1"
PARENT = "METARL_PARENT"  # process id of the launcher
POLL, GRACE = 0.5, 10.0  # seconds: polling interval of the parent; for saving after it exited


def by_torchrun() -> bool:
    """Whether this process was started as a rank."""
    return "WORLD_SIZE" in os.environ


def leave(code: int) -> None:
    """Exit this rank immediately, without the interpreter's shutdown.

    During shutdown, torch's threads may abort the process with "terminate called without an active
    exception".
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def restarted() -> bool:
    """Whether `torchrun` restarted this process after a failure."""
    return rank_variable("TORCHELASTIC_RESTART_COUNT", 0) > 0


def name_for_restarts() -> str | None:
    """The run id that all restarts of a `torchrun` job share; None if it doesn't restart."""
    if rank_variable("TORCHELASTIC_MAX_RESTARTS", 0) == 0:
        return None
    return os.environ["TORCHELASTIC_RUN_ID"]


@contextmanager
def _rendezvous_folder() -> Iterator[Path]:
    """A new private folder for the rendezvous of the processes on this machine.

    torch's TCP store listens on every network interface and unpickles what it receives.
    """
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    with tempfile.TemporaryDirectory(prefix="metarl-") as place:  # mode 0700
        variables = {
            STORE: f"{place}/ranks",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
            "GLOO_SOCKET_IFNAME": loopback,
            "NCCL_SOCKET_IFNAME": loopback,
            PARENT: str(os.getpid()),
        }
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield Path(place)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def end_with_parent() -> None:
    """Stop this rank, after saving its state, when its parent process exits."""
    parent = os.getppid()
    if parent != rank_variable(PARENT, parent):
        parent = -1  # the parent has exited already

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)  # still here: a collective is waiting for another rank

    threading.Thread(target=watch, daemon=True).start()


def go_on_together(folder: Path, count: int, more: list[str]) -> int:
    """Train an existing run with `count` processes and return the exit code.

    If one of them is killed, all restart from the last checkpoint, up to `RESTARTS` times.
    Equivalent to `torchrun --standalone --nproc-per-node COUNT -m metarl train --resume FOLDER`.

    Raises:
        RunError: a process was killed after the last restart.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    # -P: modules must not be imported from the working folder, which may be someone else's run.
    words = ["-P", "-m", "metarl", "train", "--resume", str(folder), *more]
    for restart in range(RESTARTS + 1):
        try:
            with _rendezvous_folder() as rendezvous:
                config = LaunchConfig(
                    min_nodes=1,
                    max_nodes=1,
                    nproc_per_node=count,
                    max_restarts=0,
                    run_id=folder.name,
                    rdzv_backend="c10d",
                    rdzv_endpoint=f"{rendezvous}/launcher",
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
            if failure.exitcode >= 0:  # the rank has printed its own error
                return failure.exitcode
            name = signal.Signals(-failure.exitcode).name
        if restart < RESTARTS:
            print(
                f"metarl: rank {rank} was killed by {name}: all ranks restart from the last "
                "checkpoint",
                file=sys.stderr,
            )
    raise RunError(
        f"rank {rank} was killed by {name}, after {RESTARTS} restarts: give the processes more "
        f"memory, or fewer tasks at once with --task-chunk; resume with: metarl train --resume "
        f"{folder}"
    )
