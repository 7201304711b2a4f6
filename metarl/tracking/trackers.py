"""Trackers: `metrics.csv` is the record, TensorBoard is a view of it, others are user-defined."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from metarl.system.files import open_to_append, read_table, write_atomically

Values = np.ndarray[Any, Any]


class Tracker(Protocol):
    """Receives the metrics of a run.

    Two methods are optional: `histograms(env_steps, values)` receives, at each evaluation, flat
    arrays by the names in `metric_names.DISTRIBUTIONS`; `sync()` is called before each checkpoint.
    """

    def write(self, iteration: int, env_steps: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a meta-iteration, by name."""
        ...

    def close(self) -> None:
        """Called after the last iteration, or after an error."""
        ...


class Trackers:
    """Several trackers as one."""

    def __init__(self, members: Sequence[Tracker]) -> None:
        self._members = members

    def write(self, iteration: int, env_steps: int, metrics: Mapping[str, float]) -> None:
        for member in self._members:
            member.write(iteration, env_steps, metrics)

    def histograms(self, env_steps: int, values: Mapping[str, Values]) -> None:
        for member in self._members:
            if hasattr(member, "histograms"):
                member.histograms(env_steps, values)

    def sync(self) -> None:
        for member in self._members:
            if hasattr(member, "sync"):
                member.sync()

    def close(self) -> None:
        with ExitStack() as stack:  # closes all, even if one of them raises
            for member in self._members:
                stack.callback(member.close)


class CsvTracker:
    """Writes one line per iteration, flushed immediately.

    Resuming removes the lines after the checkpoint.
    """

    def __init__(self, path: Path, header: tuple[str, ...], iteration: int) -> None:
        kept = []
        if path.exists():
            old, *rows = read_table(path) or [[]]
            # A line cut off by a power failure has too few fields, or no number.
            whole = [
                r for r in rows if len(r) == len(old) > 0 and r[0].isdecimal() and len(r[0]) < 19
            ]
            named = [dict(zip(old, r, strict=True)) for r in whole if int(r[0]) <= iteration]
            # An older metarl may have written fewer columns.
            kept = [[row.get(name, "") for name in header] for row in named]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *kept])
        write_atomically(path, text.getvalue().encode())
        self._header = header
        self._file = open_to_append(path)
        self._writer = csv.writer(self._file, lineterminator="\n")

    def write(self, iteration: int, env_steps: int, metrics: Mapping[str, float]) -> None:
        row = {"iteration": iteration, "env_steps": env_steps, **metrics}
        self._writer.writerow([row.get(name, "") for name in self._header])
        self._file.flush()

    def sync(self) -> None:
        """Force the file to disk, so that the record is never behind a checkpoint."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
