"""Splits of tasks: training, validation, test, and extrapolation beyond the training range."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "validation", "test", "extrapolate"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "extrapolate")
