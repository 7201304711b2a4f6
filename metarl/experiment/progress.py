"""How far training has come, on a terminal or in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from metarl.experiment.train_run import Watch
from metarl.outer.train_state import TrainState
from metarl.training.meta_train import why_skipped

LOG_EVERY = 5.0  # s between lines of progress where no terminal shows a bar


@contextmanager
def progress(console: Console, total: int, done: int) -> Iterator[Watch]:
    """A progress bar with the time left and the return before and after adaptation."""
    columns = (
        TextColumn("meta-training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[gain]}"),
    )
    with Progress(*columns, console=console) as shown:
        bar = shown.add_task("train", total=total, completed=done, gain="")
        began = said = time.monotonic()

        def watch(state: TrainState) -> None:
            nonlocal said
            m = state.metrics
            before, after = m["train/return_before"], m["train/return_after"]
            gain = f"return {before:.1f} -> {after:.1f} after adaptation"
            shown.update(bar, completed=state.iteration, gain=gain)
            now = time.monotonic()
            if not console.is_terminal and now - said >= LOG_EVERY:
                left = (now - began) * (total - state.iteration) / max(state.iteration - done, 1)
                console.print(f"iteration {state.iteration}/{total}, {left:.0f} s left, {gain}")
                said = now
            if m["train/diverged"]:
                shown.console.print(
                    f"iteration {state.iteration}: {m['train/diverged']:.0f} episodes ended "
                    "because the simulator diverged"
                )
            if m["train/skipped_updates"] and state.skipped_in_a_row:
                shown.console.print(
                    f"iteration {state.iteration}: {why_skipped(m)}, update skipped"
                )

        yield watch
