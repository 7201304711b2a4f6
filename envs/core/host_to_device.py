"""Copying tensors from a simulator on the host to the agent's device."""

from __future__ import annotations

import torch
from torch import Tensor


def to_agent(x: Tensor, device: torch.device) -> Tensor:
    """Copy x to `device`; to a GPU asynchronously from pinned memory.

    `pin_memory` makes a copy that torch keeps until the transfer is done, so `x` may be modified
    immediately.
    """
    if device.type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
