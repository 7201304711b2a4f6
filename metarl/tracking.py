"""Where metrics go: `metrics.csv` is the record, TensorBoard a view of it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metarl.checkpoint import write_atomically

TRAIN_COLUMNS = (
    "train/return_before",
    "train/return_after",
    "train/adaptation_gain",
    "train/meta_loss",
    "train/kl",
    "train/entropy",
    "train/grad_norm",
    "train/skipped_updates",
    "train/diverged",
)
SUCCESS_COLUMNS = ("train/success_before", "train/success_after")
TIME_COLUMNS = ("time/seconds", "time/env_steps_per_second")  # the only ones that vary between runs


def columns(eval_steps: int, success: bool = False) -> tuple[str, ...]:
    """The header of `metrics.csv`; `success` where simulators say which episodes succeeded."""
    train = (*TRAIN_COLUMNS, *(SUCCESS_COLUMNS if success else ()))
    returns = tuple(f"eval/return_step_{k}" for k in range(eval_steps + 1))
    return ("iteration", "env_steps", *train, *returns, *TIME_COLUMNS)


class CsvTracker:
    """One line an iteration, flushed at once; going on cuts off what came after the checkpoint."""

    def __init__(self, path: Path, header: tuple[str, ...], iteration: int) -> None:
        kept = []
        if path.exists():
            with path.open(newline="", errors="replace") as file:
                old, *rows = list(csv.reader(file)) or [[]]
            # A line that was being written when the power went has too few fields, or no number.
            whole = [r for r in rows if len(r) == len(old) > 0 and r[0].isdecimal()]
            named = [dict(zip(old, r, strict=True)) for r in whole if int(r[0]) <= iteration]
            # An older metarl may have written fewer columns.
            kept = [[row.get(name, "") for name in header] for row in named]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *kept])
        write_atomically(path, text.getvalue().encode())
        self._header = header
        self._file = path.open("a", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def write(self, iteration: int, env_steps: int, metrics: Mapping[str, float]) -> None:
        row = {"iteration": iteration, "env_steps": env_steps, **metrics}
        self._writer.writerow([row.get(name, "") for name in self._header])
        self._file.flush()

    def sync(self) -> None:
        """Force what was written to disk, so that the record is never behind a checkpoint."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class TensorBoardTracker:
    """Scalars over environment steps, and at the end pictures and hyper-parameters."""

    def __init__(self, folder: Path, env_steps: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What a killed run wrote after the checkpoint is not shown.
        self._writer = SummaryWriter(str(folder), purge_step=env_steps + 1, flush_secs=10)

    def write(self, iteration: int, env_steps: int, metrics: Mapping[str, float]) -> None:
        for name, value in {**metrics, "time/iterations": iteration}.items():
            self._writer.add_scalar(name, value, env_steps)

    def figure(self, tag: str, picture: np.ndarray[Any, Any], env_steps: int) -> None:
        """An (H, W, 3) uint8 image."""
        self._writer.add_image(tag, picture, env_steps, dataformats="HWC")

    def animation(self, tag: str, gif: bytes, size: tuple[int, int], env_steps: int) -> None:
        """An animated GIF of `size` (width, height); the image plug-in plays it."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        image = Summary.Image(width=size[0], height=size[1], colorspace=3, encoded_image_string=gif)
        self._add(Summary(value=[Summary.Value(tag=tag, image=image)]), env_steps)

    def hparams(self, settings: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """The settings beside final metrics, in this run and not in a new one under it."""
        from torch.utils.tensorboard.summary import hparams

        plain = {
            k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in settings.items()
        }
        for summary in hparams(plain, dict(metrics)):
            self._add(summary, None)

    def _add(self, summary: Any, env_steps: int | None) -> None:
        assert self._writer.file_writer is not None
        self._writer.file_writer.add_summary(summary, env_steps)

    def close(self) -> None:
        self._writer.close()
