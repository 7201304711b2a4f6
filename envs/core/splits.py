"""Which tasks: those of training, unseen ones for tuning and for the final test, out of range."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "validation", "test", "extrapolate"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "extrapolate")
