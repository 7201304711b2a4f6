"""What makes a host wait for its device: reading a value, or a shape that depends on values."""

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
    """Notes each operation that would wait for a device."""

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
