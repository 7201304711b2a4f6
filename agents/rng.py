"""Randomness as a function of what it is for, so that resuming equals never stopping."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def stream(
    seed: int, purpose: str, iteration: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator | None:
    """An independent stream for every (seed, purpose, iteration); None on the meta device."""
    if torch.device(device).type == "meta":
        return None
    entropy = [seed, zlib.crc32(purpose.encode()), iteration]
    word = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(word >> 1)
