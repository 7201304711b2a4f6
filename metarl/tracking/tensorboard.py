"""TensorBoard tracker, which needs no setup."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import (  # type: ignore[import-untyped]
    DATA_CLASS_SCALAR,
    Summary,
    SummaryMetadata,
)
from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # type: ignore[import-untyped]
from tensorboard.summary.writer.event_file_writer import (  # type: ignore[import-untyped]
    _AsyncWriterThread,
)
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from metarl.config.settings import RunConfig, TrainConfig
from metarl.evaluation.evaluate import Evaluation
from metarl.plotting.episodes import Picture, gif
from metarl.tracking.metric_names import described, final, layout
from metarl.tracking.run_summary import about
from metarl.tracking.trackers import Values

BINS = 64  # in a histogram


class TensorBoardTracker:
    """Scalars and histograms over environment steps; pictures, settings and a layout."""

    def __init__(self, folder: Path, env_steps: int) -> None:
        threading.excepthook = _ignore_writer_errors
        # Hide what a killed run wrote after its last checkpoint.
        self._writer = SummaryWriter(str(folder), purge_step=env_steps + 1, flush_secs=10)
        self._folder = folder
        self._described: set[str] = set()

    def write(self, iteration: int, env_steps: int, metrics: Mapping[str, float]) -> None:
        self.scalars(env_steps, {**metrics, "time/iterations": iteration})

    def scalars(self, env_steps: int, metrics: Mapping[str, float]) -> None:
        """Write all scalars in one event, which costs the training thread several times less."""
        values = [
            Summary.Value(tag=name, simple_value=float(value), metadata=self._metadata(name))
            for name, value in metrics.items()
        ]
        self._add(Summary(value=values), env_steps)

    def _metadata(self, name: str) -> SummaryMetadata | None:
        """The description of a chart, sent with its first point."""
        tag = described(name)
        if tag is None or name in self._described:
            return None
        self._described.add(name)
        return SummaryMetadata(
            summary_description=f"{tag.meaning} ({tag.unit})",
            plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"),
            data_class=DATA_CLASS_SCALAR,
        )

    def histograms(self, env_steps: int, values: Mapping[str, Values]) -> None:
        for name, x in values.items():
            self._writer.add_histogram(name, x, env_steps, bins=BINS)

    def introduce(
        self,
        train: TrainConfig,
        run: RunConfig,
        header: tuple[str, ...],
        validation: str,
        env_steps: int,
    ) -> None:
        """The layout of custom scalars, a text about the run, and its settings.

        Args:
            header: names of the scalars that will be written.
            validation: how validation tasks differ from those of training.
        """
        charts = {
            category: {title: ["Multiline", tags] for title, tags in titles.items()}
            for category, titles in layout(header).items()
        }
        self._writer.add_custom_scalars(charts)
        self._writer.add_text("about/run", about(train, run, validation), env_steps)
        # Without a list of columns, TensorBoard derives them from all runs and shows first the
        # settings in which runs differ. Each run is a row, even with equal settings.
        self._add(hparams_pb(_plain(dataclasses.asdict(train)), self._folder.name), None)

    def conclude(self, env_steps: int, result: Evaluation) -> None:
        """Write the final evaluation and mark the run as finished."""
        self.scalars(env_steps, final(result))
        _, _, end = hparams({}, {})
        self._add(end, None)

    def figure(self, tag: str, picture: Picture, env_steps: int) -> None:
        self._writer.add_image(tag, picture, env_steps, dataformats="HWC")

    def film(self, tag: str, frames: list[Picture], env_steps: int) -> None:
        """Write an animated GIF, which the image plugin plays; a video would need a codec."""
        height, width = frames[0].shape[:2]
        image = Summary.Image(
            width=width, height=height, colorspace=3, encoded_image_string=gif(frames)
        )
        self._add(Summary(value=[Summary.Value(tag=tag, image=image)]), env_steps)

    def _add(self, summary: Any, env_steps: int | None) -> None:
        assert self._writer.file_writer is not None
        self._writer.file_writer.add_summary(summary, env_steps)

    def close(self) -> None:
        self._writer.close()


def _ignore_writer_errors(error: threading.ExceptHookArgs) -> None:
    """Omit the traceback of an error that TensorBoard's thread re-raises in the next call."""
    if not (isinstance(error.thread, _AsyncWriterThread) and isinstance(error.exc_value, OSError)):
        threading.__excepthook__(error)


def _plain(settings: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    return {
        k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in settings.items()
    }
