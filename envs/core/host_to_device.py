"""From a simulator on the host to where the agent is."""

from __future__ import annotations

import torch
from torch import Tensor


def to_agent(x: Tensor, device: torch.device) -> Tensor:
    """The tensor there; to a GPU from pinned memory, so that the host need not wait for the copy.

    What is pinned is torch's own copy, kept until the GPU has read it: `x` may change at once.
    """
    if device.type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
