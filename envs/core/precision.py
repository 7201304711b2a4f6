"""Ranges of the numeric types of settings and parameters."""

from __future__ import annotations

FLOAT32_MAX = (2 - 2**-23) * 2.0**127
FLOAT32_TINY = 2.0**-126  # smallest normal number; smaller ones may be flushed to 0
INT64_MAX = 2**63 - 1


def fits_float32(x: float) -> bool:
    """Whether x is finite in float32 and doesn't underflow to 0; False for NaN."""
    return x == 0 or FLOAT32_TINY <= abs(x) <= FLOAT32_MAX
