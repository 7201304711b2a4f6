"""Collectives: each rank has a shard of the tasks, and sums are reduced over all ranks.

In a single process, the group has size 1 and the collectives are no-ops.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from metarl.envs import RunError, UsageError

T = TypeVar("T")
STORE = "METARL_STORE"  # environment variable: path of the file store for ranks on one machine
GRACE = 5.0  # seconds for the surviving ranks to report that they waited in vain


@dataclass
class ProcessGroup:
    """The process group, as seen by this rank."""

    rank: int = 0
    size: int = 1
    store: Any = None  # key-value store shared by all ranks
    timeout: float = 0.0  # seconds


_group = ProcessGroup()


def process_group() -> ProcessGroup:
    """This process's rank and the number of ranks."""
    return _group


def is_rank_zero() -> bool:
    """Whether this process writes files and prints."""
    return _group.rank == 0


@contextmanager
def init_process_group(device: torch.device, timeout: float) -> Iterator[None]:
    """Join the process group that `torchrun` set up, if any, and leave it at the end.

    Args:
        timeout: seconds after which a rank that doesn't answer counts as hung.
    Raises:
        RunError: some ranks didn't join.
    """
    global _group
    if rank_variable("WORLD_SIZE", 1) == 1:
        yield
        return
    wait = timedelta(seconds=timeout)
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        store, rank, size = _rendezvous(wait)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=wait)
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"rank {os.environ.get('RANK')} of {os.environ['WORLD_SIZE']} could not join the others"
            f" ({_first_line(error)}): start all ranks, with the same MASTER_ADDR and port."
        ) from error
    _group = ProcessGroup(rank, size, store, timeout)
    try:
        yield
    finally:
        dist.destroy_process_group()
        _group = ProcessGroup()


def rank_variable(name: str, default: int) -> int:
    """Read an integer environment variable that `torchrun` sets, such as WORLD_SIZE.

    Raises:
        UsageError: it is set but is not an integer.
    """
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise UsageError(
            f"the environment variable {name} is {text!r}, not an integer: unset it; torchrun "
            "and metarl set it themselves."
        )
    return int(text)


def _rendezvous(wait: timedelta) -> tuple[Any, int, int]:
    """The shared store, this process's rank, and the number of ranks.

    On one machine the store is a file in a folder that only this user can open, so that no port is
    exposed to the network.
    """
    if STORE not in os.environ:
        return next(dist.rendezvous("env://", timeout=wait))  # type: ignore[no-any-return]
    rank, size = rank_variable("RANK", 0), rank_variable("WORLD_SIZE", 1)
    store = dist.FileStore(os.environ[STORE], size)
    store.set_timeout(wait)
    return store, rank, size


@contextmanager
def rank_zero_only(what: str) -> Iterator[None]:
    """Run a block on rank 0 while the others call `wait_for_rank_zero(what)`.

    Heartbeats keep the other ranks from timing out.
    """
    if _group.size == 1:
        yield
        return
    done, store, timeout = threading.Event(), _group.store, _group.timeout

    def send_heartbeats() -> None:
        while not done.wait(timeout / 4):
            store.add(_key(what, "beats"), 1)

    thread = threading.Thread(target=send_heartbeats, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    store.set(_key(what, "done"), "1")


def wait_for_rank_zero(what: str) -> None:
    """Wait until rank 0 has left `rank_zero_only(what)`.

    Raises:
        RunError: its process exited, or sent no heartbeat within the timeout.
    """
    store, beats, since = _group.store, -1, time.monotonic()
    try:
        while not store.check([_key(what, "done")]):
            now = store.add(_key(what, "beats"), 0)
            if now != beats:
                beats, since = now, time.monotonic()
            elif time.monotonic() - since > _group.timeout:
                raise RuntimeError("no heartbeat")
            time.sleep(0.02)
    except RuntimeError as error:
        raise RunError(
            f"rank {_group.rank} lost rank 0 during its {what}, which exited or gave no answer in "
            f"{_group.timeout:g} s ({_first_line(error)}): see what it printed, or give a longer "
            "--rank-timeout."
        ) from error


def _key(what: str, kind: str) -> str:
    """A store key for this restart: restarted ranks must not read keys of earlier attempts."""
    return f"{what}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{kind}"


def all_reduce(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Sum each tensor over all ranks, in one message.

    Raises:
        RunError: a rank exited or didn't answer in time; the message names it.
    """
    if _group.size == 1:
        return tensors
    message = torch.cat([x.detach().flatten() for x in tensors])
    with _naming_missing_ranks():
        dist.all_reduce(message)
    parts = message.split([x.numel() for x in tensors])
    return tuple(part.view_as(x) for part, x in zip(parts, tensors, strict=True))


def all_reduce_named(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`all_reduce` for a dictionary of tensors."""
    return dict(zip(tensors, all_reduce(*tensors.values()), strict=True))


def all_reduce_mean(x: Tensor) -> Tensor:
    """Mean of all elements of x over all ranks, ()."""
    if _group.size == 1:
        return x.mean()
    total, n = all_reduce(x.sum(), torch.full_like(x.sum(), x.numel()))
    return total / n


def shard(task: Any) -> Any:
    """This rank's contiguous share of N tasks; sizes differ by at most one task."""
    if _group.size == 1:
        return task
    return type(task)(*(x.tensor_split(_group.size)[_group.rank] for x in task))


def rank_purpose(purpose: str) -> str:
    """The purpose of a random stream per rank; rank 0 uses that of a single process."""
    return f"{purpose}, rank {_group.rank}" if _group.rank else purpose


def broadcast_from_rank_zero(make: Callable[[], T]) -> T:
    """Call `make` on rank 0 and return its pickled result, or raise its error, on all ranks."""
    if _group.size == 1:
        return make()
    box: list[Any] = [None, None]
    if is_rank_zero():
        try:
            box[0] = make()
        except Exception as error:  # re-raised below, on all ranks
            box[1] = error
    with _naming_missing_ranks():
        dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise box[1]
    return box[0]  # type: ignore[no-any-return]


@contextmanager
def _naming_missing_ranks() -> Iterator[None]:
    """Turn a failed collective into a RunError that names the ranks that didn't take part."""
    try:
        yield
    except RuntimeError as error:
        missing = _missing_ranks()
        names = ", ".join(f"rank {r}" for r in missing) or "another rank"
        raise RunError(
            f"rank {_group.rank} lost {names}, which exited or gave no answer in "
            f"{_group.timeout:g} s ({_first_line(error)}): see what it printed, or give a longer "
            "--rank-timeout."
        ) from error


def _missing_ranks() -> list[int]:
    """Report this rank as surviving and return the ranks that don't; rank 0 if its store is down.

    An unreachable host blocks the store for as long as TCP retries, about 15 minutes. The query
    therefore runs in a daemon thread that is joined with a timeout.
    """
    missing = [] if is_rank_zero() else [0]

    def query() -> None:
        prefix = f"lost/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/"
        try:
            _group.store.set(f"{prefix}{_group.rank}", "waited")
            time.sleep(GRACE)
            missing[:] = [r for r in range(_group.size) if not _group.store.check([f"{prefix}{r}"])]
        except RuntimeError:  # the host of the store is down too
            missing.clear()

    thread = threading.Thread(target=query, daemon=True)
    thread.start()
    thread.join(2 * GRACE)
    return missing


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
