"""Which tasks: those of training, unseen ones, or out of range."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "test", "extrapolate"]
SPLITS: tuple[Split, ...] = ("train", "test", "extrapolate")
