"""What `metarl bench` can be given; as light to import as all arguments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from metarl.config.validation import check, number


@dataclass(frozen=True)
class Bench:
    """Time one meta-iteration, phase by phase; or simulation alone, family by family."""

    workload: Annotated[
        Positional[str],
        arg(
            help="nav-20, cartpole-400, forager-400, cheetah-400 (a plain outer gradient step), "
            "nav-20-trpo, nav-20-trpo-quarter, nav-20-promp, cheetah-40 (the whole of ProMP), "
            "nav-200 (200 tasks), or sim (worlds alone)"
        ),
    ] = "nav-20"
    families: Annotated[
        tuple[str, ...],
        arg(help="what `sim` measures; by default all whose packages are here"),
    ] = ()
    repeats: Annotated[
        int, *number("meta-iterations that are timed, after two that aren't; rollouts of sim", 1)
    ] = 20
    threads: Annotated[int, *number("CPU threads; 0 is torch's choice", 0, 1024)] = 0
    tasks: Annotated[int, *number("tasks instead of the workload's own; 0 is those", 0)] = 0
    task_chunk: Annotated[int, *number("tasks in one tensor program", 1, 100_000)] = 50
    compile: Annotated[bool, arg(help="by torch.compile")] = False
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N")] = "auto"
    ops: Annotated[bool, arg(help="count operations instead of timing them")] = False
    profile: Annotated[
        Path | None,
        arg(
            help="write a trace for Perfetto here; show the ten dearest operations", metavar="FILE"
        ),
    ] = None
    compare: Annotated[
        Path | None, arg(help="show the ratio to this record of --json", metavar="FILE")
    ] = None
    json: Annotated[Path | None, arg(help="write the record here; - is stdout", metavar="FILE")] = (
        None
    )

    def __post_init__(self) -> None:
        check(self)
