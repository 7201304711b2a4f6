"""Several processes as one: each has a part of the tasks, and what is summed is summed over all.

A process that was not started as one of several is rank 0 of 1, and everything here does nothing.
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
STORE = "METARL_STORE"  # the file by which ranks of one machine meet
GRACE = 5.0  # seconds in which a rank that waited in vain has said so


@dataclass
class ProcessGroup:
    """This process among all."""

    rank: int = 0
    size: int = 1
    store: Any = None  # where ranks leave word for each other
    timeout: float = 0.0  # seconds


_group = ProcessGroup()


def process_group() -> ProcessGroup:
    """Rank, and number of ranks."""
    return _group


def is_rank_zero() -> bool:
    """Whether this process is the one that writes and prints."""
    return _group.rank == 0


@contextmanager
def init_process_group(device: torch.device, timeout: float) -> Iterator[None]:
    """Meet the other processes that `torchrun` started, if it did; part at the end.

    Args:
        timeout: seconds after which a rank that doesn't answer counts as hung.
    Raises:
        RunError: some of them never came.
    """
    global _group
    if rank_variable("WORLD_SIZE", 1) == 1:
        yield
        return
    wait = timedelta(seconds=timeout)
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        store, rank, size = _meet(wait)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=wait)
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"rank {os.environ.get('RANK')} of {os.environ['WORLD_SIZE']} could not meet the others"
            f" ({_first_line(error)}): start all of them, with the same MASTER_ADDR and port."
        ) from error
    _group = ProcessGroup(rank, size, store, timeout)
    try:
        yield
    finally:
        dist.destroy_process_group()
        _group = ProcessGroup()


def rank_variable(name: str, default: int) -> int:
    """A variable that `torchrun` sets, such as WORLD_SIZE.

    Raises:
        UsageError: it is there, and no whole number.
    """
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise UsageError(
            f"the environment variable {name} is {text!r}, not a whole number: unset it; torchrun "
            "and metarl set such variables themselves."
        )
    return int(text)


def _meet(wait: timedelta) -> tuple[Any, int, int]:
    """The store of all ranks, this one's rank, and their number.

    On one machine the store is a file in a folder that only this user can open, so that no port is
    open to the network.
    """
    if STORE not in os.environ:
        return next(dist.rendezvous("env://", timeout=wait))  # type: ignore[no-any-return]
    rank, size = rank_variable("RANK", 0), rank_variable("WORLD_SIZE", 1)
    store = dist.FileStore(os.environ[STORE], size)
    store.set_timeout(wait)
    return store, rank, size


@contextmanager
def rank_zero_only(what: str) -> Iterator[None]:
    """What rank 0 does while the others `wait_for_rank_zero(what)`, however long it takes."""
    if _group.size == 1:
        yield
        return
    done, store, timeout = threading.Event(), _group.store, _group.timeout

    def beat() -> None:
        while not done.wait(timeout / 4):
            store.add(_key(what, "beats"), 1)

    thread = threading.Thread(target=beat, daemon=True)
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
        RunError: its process is gone, or has given no sign of life for the time-out.
    """
    store, beats, since = _group.store, -1, time.monotonic()
    try:
        while not store.check([_key(what, "done")]):
            now = store.add(_key(what, "beats"), 0)
            if now != beats:
                beats, since = now, time.monotonic()
            elif time.monotonic() - since > _group.timeout:
                raise RuntimeError("no sign of life")
            time.sleep(0.02)
    except RuntimeError as error:
        raise RunError(
            f"rank {_group.rank} lost rank 0 during its {what}, which is gone or gave no answer in "
            f"{_group.timeout:g} s ({_first_line(error)}): see what it printed, or give a longer "
            "--rank-timeout."
        ) from error


def _key(what: str, kind: str) -> str:
    """Ranks that were started anew must not read what those before them left in the store."""
    return f"{what}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{kind}"


def all_reduce(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Each tensor's sum over all ranks, all of them in one message.

    Raises:
        RunError: a rank is gone, or hasn't answered in time; it is named.
    """
    if _group.size == 1:
        return tensors
    message = torch.cat([x.detach().flatten() for x in tensors])
    with _naming_who_is_missing():
        dist.all_reduce(message)
    parts = message.split([x.numel() for x in tensors])
    return tuple(part.view_as(x) for part, x in zip(parts, tensors, strict=True))


def all_reduce_named(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`all_reduce` of tensors by their names."""
    return dict(zip(tensors, all_reduce(*tensors.values()), strict=True))


def all_reduce_mean(x: Tensor) -> Tensor:
    """Of all numbers in x on all ranks, ()."""
    if _group.size == 1:
        return x.mean()
    total, n = all_reduce(x.sum(), torch.full_like(x.sum(), x.numel()))
    return total / n


def shard(task: Any) -> Any:
    """This rank's share of N tasks: contiguous, and of at most one task more than another's."""
    if _group.size == 1:
        return task
    return type(task)(*(x.tensor_split(_group.size)[_group.rank] for x in task))


def rank_purpose(purpose: str) -> str:
    """The purpose of a stream that is each rank's own; rank 0 has that of a single process."""
    return f"{purpose}, rank {_group.rank}" if _group.rank else purpose


def broadcast_from_rank_zero(make: Callable[[], T]) -> T:
    """What rank 0 makes of it, an error too, on all ranks; it is pickled on the way."""
    if _group.size == 1:
        return make()
    box: list[Any] = [None, None]
    if is_rank_zero():
        try:
            box[0] = make()
        except Exception as error:  # all ranks are to end with it
            box[1] = error
    with _naming_who_is_missing():
        dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise box[1]
    return box[0]  # type: ignore[no-any-return]


@contextmanager
def _naming_who_is_missing() -> Iterator[None]:
    """Who waited in vain leaves word; after a while it is clear who didn't."""
    try:
        yield
    except RuntimeError as error:
        silent = _who_left_no_word()
        names = ", ".join(f"rank {r}" for r in silent) or "another rank"
        raise RunError(
            f"rank {_group.rank} lost {names}, which is gone or gave no answer in "
            f"{_group.timeout:g} s ({_first_line(error)}): see what it printed, or give a longer "
            "--rank-timeout."
        ) from error


def _who_left_no_word() -> list[int]:
    """Leave word and wait for that of the others; the first rank, where its store is silent too.

    A host that can't be reached any more is silent for as long as TCP tries, which is a quarter of
    an hour; so a thread asks, that isn't waited for.
    """
    silent = [] if is_rank_zero() else [0]

    def ask() -> None:
        me = f"lost/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/"
        try:
            _group.store.set(f"{me}{_group.rank}", "waited")
            time.sleep(GRACE)
            silent[:] = [r for r in range(_group.size) if not _group.store.check([f"{me}{r}"])]
        except RuntimeError:  # the host of the store is gone too
            silent.clear()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(2 * GRACE)
    return silent


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
