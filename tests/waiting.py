"""Counts what makes a host wait for its device: reads of values, and shapes that depend on them."""

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "_to_copy",
    "is_nonzero",
    "equal",
    "unique",
)
READS = ("tolist", "cpu", "numpy", "item", "__bool__", "__float__", "__int__", "__index__")


class CountWaits(TorchDispatchMode):
    """Names of the operations that would wait."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        moved = name != "_to_copy" or kwargs.get("device") is not None
        if name in WAITS and moved:
            self.waits.append(name)
        return func(*args, **kwargs)


@contextlib.contextmanager
def counted(monkeypatch):
    """Two lists that fill: reads that Python asks for, and operations that need one."""
    reads = []
    with monkeypatch.context() as patch, CountWaits() as count:
        for name in READS:
            plain = getattr(torch.Tensor, name)
            patch.setattr(
                torch.Tensor, name, lambda x, *a, _n=name, _p=plain: reads.append(_n) or _p(x, *a)
            )
        yield reads, count.waits
