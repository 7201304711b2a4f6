"""Standard output that survives a closed pipe: `metarl train | head -1` trains to the end."""

from __future__ import annotations

import io
import os
import sys


class _Tolerant(io.RawIOBase):
    """A file descriptor that discards output after its reader has closed the pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, content: bytes) -> int:  # type: ignore[override]
        try:
            return os.write(self._descriptor, content)
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._descriptor)
            os.close(null)
            return len(content)


def tolerate_lost_readers() -> None:
    """Tolerate a closed pipe or a missing stream; escape characters outside the encoding."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  for the process's life
        elif stream is getattr(sys, f"__{name}__") and stream.fileno() == descriptor:
            stream.flush()
            raw = io.BufferedWriter(_Tolerant(descriptor))  # type: ignore[type-var]
            tolerant = io.TextIOWrapper(
                raw, stream.encoding, "backslashreplace", line_buffering=stream.line_buffering
            )
            setattr(sys, name, tolerant)
