"""Memory shared between a parent process and its workers, reserved in advance."""

from __future__ import annotations

import mmap
import os
import tempfile
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection

from metarl.envs.core.errors import RunError
from metarl.envs.core.free_memory import free_memory, in_bytes


class SharedMemory:
    """An anonymous block, freed by the system when the last process releases it.

    It isn't allocated in /dev/shm, which often has only 64 MB in containers; writing past the end
    of a full file system kills the process with SIGBUS, without a message.

    Raises:
        RunError: there isn't enough memory.
    """

    def __init__(self, size: int) -> None:
        free = free_memory()
        try:
            if size > free:
                raise OSError(f"{in_bytes(free)} are free")
            self._file = _nameless_file()
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(self._file, 0, size)
                else:
                    os.ftruncate(self._file, size)
                self.buf = mmap.mmap(self._file, size)
            except BaseException:
                os.close(self._file)
                raise
        except OSError as error:
            raise RunError(
                f"the workers need {in_bytes(size)} of shared memory ({error.strerror or error}): "
                "give fewer --tasks or --episodes, a smaller --task-chunk, or smaller observations."
            ) from error

    def send(self, connection: Connection, pid: int) -> None:
        """Send the block to a worker, which calls `receive`."""
        reduction.send_handle(connection, self._file, pid)

    def close(self) -> None:
        """Release the block in this process."""
        os.close(self._file)
        release(self.buf)


def receive(connection: Connection) -> mmap.mmap:
    """Receive and map a block sent by the other process."""
    file = reduction.recv_handle(connection)
    try:
        return mmap.mmap(file, 0)
    finally:
        os.close(file)


def release(buf: mmap.mmap) -> None:
    """Unmap a block; if views of it exist, it is unmapped with the last of them."""
    with suppress(BufferError):
        buf.close()


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("metarl")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
