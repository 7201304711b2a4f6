"""Safe file access: atomic writes, reads with a size limit, no symbolic links."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from metarl.envs import UsageError

MB = 1 << 20
SETTINGS, RECORD, TABLE = 4 * MB, 256 * MB, 256 * MB  # size limits of JSON and CSV files
SPECIAL = (Path("/dev"), Path("/proc"), Path("/sys"))  # no regular files can be written here
SHARED_MEMORY = Path("/dev/shm")  # except here
DAMAGED = (OSError, ValueError, RecursionError)  # from reading JSON; ValueError covers bad UTF-8


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically: readers see the old or the new content, never a partial file.

    A symbolic link at `path` is replaced, not followed. The temporary file has a random name and
    must not exist, so that no file or link in the folder is written through.
    """
    part = path.with_name(f"{path.name[:200]}.{secrets.token_hex(8)}.part")
    try:
        with open(part, "xb", opener=_no_link) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)  # makes the rename survive a power failure
        os.fsync(folder)
        os.close(folder)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def open_to_append(path: Path) -> IO[str]:
    """Open a text file for appending; OSError if it is a symbolic link."""
    return open(path, "a", newline="", opener=_no_link)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def read_limited(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes; OSError otherwise.

    Reading a pipe or a device could block or never end.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(f"{path.name} has {size:,} bytes, {most:,} at most can be read")
        return file.read(size)  # `most` may be far more, and room for all of it would be taken


@contextmanager
def open_regular(path: Path) -> Iterator[IO[bytes]]:
    """A regular file to read bytes from; OSError for any other."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path.name} is not a regular file")
        yield file


def read_json(path: Path, most: int = SETTINGS) -> Any:
    """The content of a JSON file; raises one of `DAMAGED` if it can't be read."""
    return json.loads(read_limited(path, most))


def read_table(path: Path) -> list[list[str]]:
    """The rows of a CSV file; invalid UTF-8 is replaced.

    Raises:
        UsageError: it can't be read.
    """
    try:
        text = read_limited(path, TABLE).decode(errors="replace")
        return list(csv.reader(io.StringIO(text, newline="")))
    except (OSError, csv.Error) as error:
        raise UsageError(f"{path} can't be read ({error}): restore it, or move it away.") from error


def check_output(flag: str, path: Path | None) -> None:
    """Raise UsageError, before any computation, if a file can't be written there."""
    if path is None:
        return
    try:
        if reason := _unwritable(path):
            raise UsageError(f"{flag} {path}: {reason}.")
    except (OSError, ValueError) as error:  # a name that is too long or contains a null byte
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{flag} {path}: {error}: give another name.") from error


def _unwritable(path: Path) -> str:
    """Why no file can be written there, and what to do; empty if one can."""
    parent = path.parent
    if "\0" in str(path):
        return "a name can't contain a null byte; give another"
    if path.is_dir():
        return "it is a folder; give a file in it"
    if not parent.is_dir():
        return f"no folder {parent}; create it, or give another"
    where = parent.resolve()
    special = any(where.is_relative_to(each) for each in SPECIAL)
    if (path.exists() and not path.is_file()) or (
        special and not where.is_relative_to(SHARED_MEMORY)
    ):
        return "it is not a regular file, and would be replaced; give another"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"the folder {parent} is not writable; give a file in another"
    return ""
