"""Read tensors from an untrusted `torch.save` file without running code or trusting its sizes.

`torch.load` calls any function from a long list that the pickle names, decompresses everything in
the zip, and can read past the end of the data if the pickle says so. Here the pickle may only
describe a dictionary of contiguous floating-point tensors whose bytes are in the file.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from pathlib import PurePosixPath
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from metarl.system.files import MB

DIRECTORY = MB  # size limit of a zip's table of contents, bytes
RATIO = 20  # limit of the compression ratio; weights shrink by only a few percent
SMALL = 16 * MB  # files up to this size may exceed the ratio
MEMO = 100_000  # limit of a pickle's memo
FLOATS = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2"}
OPCODES = {
    "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1",
    "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "EMPTY_DICT", "SETITEM", "SETITEMS", "BUILD", "BINPUT", "LONG_BINPUT",
    "BINGET", "LONG_BINGET", "MEMOIZE", "BINPERSID", "GLOBAL", "REDUCE",
}  # fmt: skip


class Damaged(ValueError):
    """The file is invalid; the message says where."""


def open_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """Open a zip after checking the size of its table of contents."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 22 - 0xFFFF))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise Damaged("not a zip")
    if struct.unpack_from("<I", tail, end + 12)[0] > DIRECTORY:
        raise Damaged("too many files in it")
    return zipfile.ZipFile(file)


def read_member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Read a file of at most `most` bytes from a zip and verify its checksum."""
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Damaged(f"{name} is compressed in an unusual way")
    if info.file_size > min(most, max(SMALL, RATIO * info.compress_size)):
        raise Damaged(f"{name} says it has {info.file_size:,} bytes")
    with archive.open(info) as file:  # read no more than the declared size
        content = file.read(info.file_size)
        if len(content) != info.file_size or file.read(1):
            raise Damaged(f"{name} has another size than it says")
    return content


def read_tensors(blob: bytes) -> dict[str, Tensor]:
    """Read a dictionary of tensors that `torch.save` wrote.

    Raises:
        Damaged: the file is invalid; `zipfile` and `pickle` may raise other errors.
    """
    with open_zip(io.BytesIO(blob)) as archive:
        members = archive.infolist()
        if sum(info.file_size for info in members) > len(blob):
            raise Damaged("its parts are larger than the file")
        (name,) = [i.filename for i in members if PurePosixPath(i.filename).name == "data.pkl"]
        order = str(PurePosixPath(name).parent / "byteorder")
        if order in archive.NameToInfo and read_member(archive, order, 10) != b"little":
            raise Damaged("its byte order is not little-endian")
        text = read_member(archive, name, MB)
        _check_opcodes(text)
        found = _Reader(text, archive, PurePosixPath(name).parent, len(blob)).load()
    if not isinstance(found, dict) or not all(isinstance(x, Tensor) for x in found.values()):
        raise Damaged("not a dictionary of tensors")
    return dict(found)


def _check_opcodes(text: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(text):
        if opcode.name not in OPCODES:
            raise Damaged(f"{opcode.name} in its pickle")
        if opcode.name.endswith(("PUT", "GET")) and int(argument or 0) > MEMO:
            raise Damaged("too many objects in its pickle")


class _Reader(pickle.Unpickler):
    """Unpickler that accepts dictionaries and tensors and rejects every other name."""

    def __init__(
        self, text: bytes, archive: zipfile.ZipFile, root: PurePosixPath, left: int
    ) -> None:
        super().__init__(io.BytesIO(text), encoding="utf-8")
        self._archive, self._root, self._left = archive, root, left
        self._storages: dict[str, np.ndarray[Any, Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if module == "torch" and name in FLOATS:
            return np.dtype(FLOATS[name])
        raise Damaged(f"{module}.{name} in its pickle")

    def persistent_load(self, pid: Any) -> Any:
        """The array of a storage, which several tensors may share."""
        _, dtype, key, _, count = pid
        if not (isinstance(dtype, np.dtype) and isinstance(key, str) and type(count) is int):
            raise Damaged("not a storage of floating-point numbers")
        if key not in self._storages:
            name = str(self._root / "data" / key)
            content = read_member(self._archive, name, self._archive.getinfo(name).file_size)
            self._storages[key] = np.frombuffer(content, dtype)
        if len(self._storages[key]) < count or self._storages[key].dtype != dtype:
            raise Damaged(f"storage {key} is too short")
        return self._storages[key]

    def _tensor(self, storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
        """Rebuild a tensor; it must be contiguous and lie within its storage."""
        valid = isinstance(storage, np.ndarray) and all(
            type(n) is int and 0 <= n <= len(storage) for n in (offset, *size)
        )
        count = math.prod(size) if valid and len(size) <= 8 else -1
        contiguous = tuple(math.prod(size[i + 1 :]) for i in range(len(size)))
        strides = [(a, b) for n, a, b in zip(size, stride, contiguous, strict=True) if n > 1]
        if count < 0 or offset + count > len(storage) or any(a != b for a, b in strides):
            raise Damaged(f"a tensor of size {tuple(size)} that isn't in it")
        self._left -= count * storage.itemsize
        if self._left < 0:
            raise Damaged("its tensors are larger than the file")
        return torch.from_numpy(storage[offset : offset + count].reshape(size).copy())
