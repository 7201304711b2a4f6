"""The folder of a run, locked so that one process at a time writes to it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from metarl.envs import RunError, UsageError

LOCK = ".lock"
# File systems without locks, as on some clusters: runs are not guarded there.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class FolderTaken(UsageError):
    """The folder already exists and is not empty, or is not a folder."""


class FolderInUse(FolderTaken):
    """Another process holds the lock of the folder."""


@dataclass(frozen=True)
class HeldFolder:
    """A run's folder, locked by this process."""

    path: Path
    directory: int  # file descriptor, which follows the folder when it is renamed
    lock: int  # file descriptor

    def check(self) -> None:
        """Raise RunError if the folder was deleted, renamed or replaced."""
        if not _is_at(self.path / LOCK, self.lock):
            place = self.place()
            what = f"was renamed to {place}" if place else "was deleted"
            raise RunError(f"{self.path} {what} while metarl was writing to it.")

    def place(self) -> Path | None:
        """The folder's current path; None if it was deleted or can't be determined."""
        if _is_at(self.path, self.directory):
            return self.path
        try:
            found = Path(os.readlink(f"/proc/self/fd/{self.directory}"))
        except OSError:  # not on Linux
            return None
        return found if _is_at(found, self.directory) else None


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


_held: dict[tuple[int, int], HeldFolder] = {}  # by device and inode, so a folder is locked once


def where_is(folder: Path) -> Path | None:
    """The current path of a folder that this process holds, even if renamed; None if deleted."""
    return next((held.place() for held in _held.values() if held.path == folder), folder)


@contextmanager
def hold(folder: Path) -> Iterator[HeldFolder]:
    """Lock a run's folder until the block or the process ends.

    Raises:
        FolderInUse: another process holds it; the message names the process.
        OSError: the folder doesn't exist or can't be written.
    """
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    key = (os.fstat(directory).st_dev, os.fstat(directory).st_ino)
    if key in _held:
        os.close(directory)
        yield _held[key]
        return
    lock = -1
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        lock = os.open(LOCK, flags, 0o644, dir_fd=directory)
        _lock(folder, lock)
        _held[key] = HeldFolder(folder, directory, lock)
        yield _held[key]
    finally:
        _held.pop(key, None)
        os.close(directory)
        if lock >= 0:
            os.close(lock)


def _lock(folder: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FolderInUse(
            f"{folder} is in use by {_holder(lock)}: wait for it or stop it, or give another run."
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)


def _holder(lock: int) -> str:
    """`process 123 on HOST`, from the lock file."""
    try:
        record = json.loads(os.pread(lock, 1000, 0))
        return f"process {int(record['pid'])} on {record['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Create the folder of a new run, or use an empty one; releases its lock file on failure.

    Raises:
        FolderTaken: it exists and is not empty, or is not a folder.
        FolderInUse: another process is creating it.
        OSError: it can't be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise FolderTaken(f"{folder} exists already, and is not a folder") from None
    with hold(folder):
        if any(path.name != LOCK for path in folder.iterdir()):
            raise FolderTaken(f"{folder} exists already")
        try:
            yield
        except OSError:
            (folder / LOCK).unlink(missing_ok=True)
            raise


def numbered(folder: Path) -> Iterator[Path]:
    """`NAME`, `NAME-2`, `NAME-3`, ...: names for runs started in the same second."""
    yield folder
    for number in range(2, 1000):
        yield folder.with_name(f"{folder.name}-{number}")
