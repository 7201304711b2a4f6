"""Memory that a parent process and its workers have in common, reserved before it is used."""

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
    """A block without a name: the system frees it with the last process that has it.

    Not one of /dev/shm, which is 64 MB small in a container: who writes past the end of such a file
    system is killed by SIGBUS, without a word.

    Raises:
        RunError: there isn't that much memory.
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
        """Give it to a worker, which calls `receive`."""
        reduction.send_handle(connection, self._file, pid)

    def close(self) -> None:
        """Have no more to do with it."""
        os.close(self._file)
        release(self.buf)


def receive(connection: Connection) -> mmap.mmap:
    """The block that the other side sends."""
    file = reduction.recv_handle(connection)
    try:
        return mmap.mmap(file, 0)
    finally:
        os.close(file)


def release(buf: mmap.mmap) -> None:
    """Unmap a block; where a view of it is still held, it goes with that."""
    with suppress(BufferError):
        buf.close()


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("metarl")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
