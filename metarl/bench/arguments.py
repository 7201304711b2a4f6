"""Arguments of `metarl bench`, in a module that imports quickly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from metarl.config.validation import check, number


@dataclass(frozen=True)
class Bench:
    """Time one meta-iteration by phase, or the simulation of each family."""

    workload: Annotated[
        Positional[str],
        arg(
            help="nav-20, cartpole-400, forager-400, cheetah-400 (a plain outer gradient step), "
            "nav-20-trpo, nav-20-trpo-quarter, nav-20-promp, cheetah-40 (complete ProMP), "
            "nav-200 (200 tasks), or sim (only simulation)"
        ),
    ] = "nav-20"
    families: Annotated[
        tuple[str, ...],
        arg(help="families that `sim` measures; by default all whose packages are installed"),
    ] = ()
    repeats: Annotated[
        int, *number("timed meta-iterations, after two for warm-up; rollouts of sim", 1)
    ] = 20
    threads: Annotated[int, *number("CPU threads; 0 is torch's default", 0, 1024)] = 0
    tasks: Annotated[int, *number("number of tasks; 0 is the workload's", 0)] = 0
    task_chunk: Annotated[int, *number("tasks processed at once", 1, 100_000)] = 50
    compile: Annotated[bool, arg(help="use torch.compile")] = False
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N")] = "auto"
    ops: Annotated[bool, arg(help="count operations instead of timing them")] = False
    profile: Annotated[
        Path | None,
        arg(
            help="write a trace for Perfetto; show the ten most expensive operations",
            metavar="FILE",
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
