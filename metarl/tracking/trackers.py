"""Where metrics go: `metrics.csv` is the record, TensorBoard a view of it, others a user's own."""

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
    """Takes what a run measures.

    One that also has `histograms(env_steps, values)` is given, at each evaluation, flat arrays by
    the names of `metric_names.DISTRIBUTIONS`; one that has `sync()`, a call before each checkpoint.
    """

    def write(self, iteration: int, env_steps: int, metrics: Mapping[str, float]) -> None:
        """The metrics of a meta-iteration, by their tags."""
        ...

    def close(self) -> None:
        """After the last iteration, or an error."""
        ...


class Trackers:
    """Several as one."""

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
        with ExitStack() as stack:  # one that fails leaves no other open
            for member in self._members:
                stack.callback(member.close)


class CsvTracker:
    """One line an iteration, flushed at once; going on cuts off what came after the checkpoint."""

    def __init__(self, path: Path, header: tuple[str, ...], iteration: int) -> None:
        kept = []
        if path.exists():
            old, *rows = read_table(path) or [[]]
            # A line that was being written when the power went has too few fields, or no number.
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
        """Force what was written to disk, so that the record is never behind a checkpoint."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
