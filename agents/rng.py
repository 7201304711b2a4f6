"""Random streams derived from their purpose, so that a resumed run equals an uninterrupted one."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def stream(
    seed: int, purpose: str, iteration: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator | None:
    """An independent generator for each (seed, purpose, iteration); None on the meta device."""
    if torch.device(device).type == "meta":
        return None
    entropy = [seed, zlib.crc32(purpose.encode()), iteration]
    word = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(word >> 1)
