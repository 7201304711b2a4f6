"""Ranges of the types that settings and parameters are computed in."""

from __future__ import annotations

FLOAT32_MAX = (2 - 2**-23) * 2.0**127
FLOAT32_TINY = 2.0**-126  # the smallest with all its digits; what is smaller may count as 0
INT64_MAX = 2**63 - 1


def fits_float32(x: float) -> bool:
    """Whether x is finite as a float32, and 0 only if it is 0; False for NaN."""
    return x == 0 or FLOAT32_TINY <= abs(x) <= FLOAT32_MAX
