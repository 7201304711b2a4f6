"""Files: written whole or not at all, read with a limit, never through a symbolic link."""

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
SETTINGS, RECORD, TABLE = 4 * MB, 256 * MB, 256 * MB  # most bytes of a JSON of each kind, of a CSV
SPECIAL = (Path("/dev"), Path("/proc"), Path("/sys"))  # no place for files
SHARED_MEMORY = Path("/dev/shm")  # but for this
DAMAGED = (OSError, ValueError, RecursionError)  # of JSON: `ValueError` covers bad UTF-8 too


def write_atomically(path: Path, content: bytes) -> None:
    """The old file or the new one, never half a file; what is left of a failure is removed.

    A symbolic link at `path` is replaced, never followed. The temporary file has a random name and
    must be new, so that nothing that lies in the folder already is written through.
    """
    part = path.with_name(f"{path.name[:200]}.{secrets.token_hex(8)}.part")
    try:
        with open(part, "xb", opener=_no_link) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)  # so that the new name outlives a power cut
        os.fsync(folder)
        os.close(folder)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def open_to_append(path: Path) -> IO[str]:
    """A text file to add lines to; OSError where it is a symbolic link."""
    return open(path, "a", newline="", opener=_no_link)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def read_limited(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes; OSError for any other.

    A pipe or a device would keep the reader waiting, or never end.
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
            raise OSError(f"{path.name} is no regular file")
        yield file


def read_json(path: Path, most: int = SETTINGS) -> Any:
    """What a JSON file holds; one of `DAMAGED` where that can't be read."""
    return json.loads(read_limited(path, most))


def read_table(path: Path) -> list[list[str]]:
    """The rows of a CSV; what isn't text in it is replaced.

    Raises:
        UsageError: it can't be read.
    """
    try:
        text = read_limited(path, TABLE).decode(errors="replace")
        return list(csv.reader(io.StringIO(text, newline="")))
    except (OSError, csv.Error) as error:
        raise UsageError(f"{path} can't be read ({error}): restore it, or move it away.") from error


def check_output(flag: str, path: Path | None) -> None:
    """Raise UsageError, before anything is computed, for a file that can't be written there."""
    if path is None:
        return
    try:
        if reason := _unwritable(path):
            raise UsageError(f"{flag} {path}: {reason}.")
    except (OSError, ValueError) as error:  # a name that is too long, or holds a zero byte
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{flag} {path}: {error}: give another name.") from error


def _unwritable(path: Path) -> str:
    """Why no file can be written there, and what to give; empty where one can."""
    parent = path.parent
    if "\0" in str(path):
        return "a name can't hold a zero byte; give another"
    if path.is_dir():
        return "it is a folder; give a file in it"
    if not parent.is_dir():
        return f"no folder {parent}; make it, or give another"
    where = parent.resolve()
    special = any(where.is_relative_to(each) for each in SPECIAL)
    if (path.exists() and not path.is_file()) or (
        special and not where.is_relative_to(SHARED_MEMORY)
    ):
        return "it is no regular file, and would be replaced; give another"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"the folder {parent} can't be written to; give a file in another"
    return ""
