"""Arguments of each command, in a module that imports quickly for `--help`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from metarl.bench.arguments import Bench
from metarl.config.settings import RunConfig, TrainConfig
from metarl.config.validation import check, number
from metarl.envs import Split

TRUST = "import code that the run's folder names, such as module:Class, if you trust its author"

DETERMINISTIC = (
    "returns of further episodes, in which the agent takes its most likely action at each step; it "
    "adapts from sampled actions as ever"
)


@dataclass(frozen=True)
class Train(RunConfig, TrainConfig):
    """Meta-train an agent over a family of variants, then show how it adapts to unseen ones."""

    run: Annotated[
        Path | None, arg(help="folder of the run; by default runs/FAMILY-ALGO-sSEED-DATE-TIME")
    ] = None
    resume: Annotated[
        Path | None,
        arg(
            help="resume the run in this folder; only --iterations, --device, --processes and "
            "--rank-timeout may change; with --lr-decay, more iterations need --no-lr-decay too"
        ),
    ] = None
    quiet: Annotated[bool, arg(help="no progress bar and no table")] = False
    json: Annotated[bool, arg(help="print only the evaluation, as JSON, on stdout")] = False


@dataclass(frozen=True)
class Evaluate:
    """Adapt a trained agent to unseen tasks; show the return after each inner step."""

    run: Annotated[Positional[Path], arg(help="folder of the run", metavar="RUN")]
    split: Annotated[
        Split, arg(help="tasks: as in training, unseen (validation, test), or out of range")
    ] = "test"
    tasks: Annotated[int, *number("tasks to adapt to", 2, 10_000)] = 40
    episodes: Annotated[
        int | None,
        *number("episodes of each task for each step; by default the run's", 2, 100_000),
    ] = None
    steps: Annotated[
        int | None, *number("inner steps; by default the run's --eval-steps", 0, 100)
    ] = None
    seed: Annotated[int, *number("seed of tasks and episodes", 0)] = 0
    deterministic: Annotated[bool, arg(help=DETERMINISTIC)] = False
    comparators: Annotated[
        bool,
        arg(help="compare an agent with --memory with classical rules: bandit, tabular-mdp"),
    ] = False
    baselines: Annotated[
        bool,
        arg(
            help="compare with random actions and with PPO: from scratch, over all training "
            "variants, recurrent, and told the task"
        ),
    ] = False
    baseline_steps: Annotated[
        int | None,
        *number(
            "environment steps of the training of each baseline; by default those of the run",
            1,
            10**12,
        ),
    ] = None
    told_steps: Annotated[
        int | None,
        *number("the same for the policy told the task; by default --baseline-steps", 1, 10**12),
    ] = None
    oracle_steps: Annotated[
        int,
        *number("the same for PPO on each variant, if the family has no oracle", 1, 10**12),
    ] = 300_000
    worst: Annotated[
        int, *number("tasks with the lowest return to list, with a command to watch each", 0)
    ] = 3
    plot: Annotated[
        Path | None,
        arg(
            help="draw the return of each task before and after: .png, .svg or .pdf",
            metavar="FILE",
        ),
    ] = None
    device: Annotated[
        str | None, arg(help="auto, cpu, cuda or cuda:N; by default the run's --device")
    ] = None
    json: Annotated[Path | None, arg(help="write the record here; - is stdout", metavar="FILE")] = (
        None
    )
    trust: Annotated[bool, arg(help=TRUST)] = False

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Compare:
    """Compare runs on the same unseen tasks; seeds of the same settings are one row."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(help="folders of the runs", metavar="RUN")]
    split: Annotated[
        Split, arg(help="tasks: as in training, unseen (validation, test), or out of range")
    ] = "test"
    tasks: Annotated[int, *number("tasks to adapt to", 2, 10_000)] = 40
    episodes: Annotated[
        int | None,
        *number("episodes of each task for each step; by default those of training", 2, 100_000),
    ] = None
    steps: Annotated[
        int | None, *number("inner steps; by default those of the runs' evaluations", 0, 100)
    ] = None
    seed: Annotated[int, *number("seed of tasks and episodes", 0)] = 0
    deterministic: Annotated[bool, arg(help=DETERMINISTIC)] = False
    force: Annotated[
        bool,
        arg(
            help="compare despite different families or budgets, or unfinished runs; all are "
            "evaluated on tasks of the first run's family"
        ),
    ] = False
    device: Annotated[
        str | None, arg(help="auto, cpu, cuda or cuda:N; by default the run's --device")
    ] = None
    out: Annotated[
        tuple[Path, ...],
        UseAppendAction,
        arg(
            metavar="FILE",
            help="write the comparison: .csv, .json, .tex (rows of a table), .png, .svg or .pdf (a "
            "figure); without a suffix csv, json, tex, png and svg",
        ),
    ] = ()
    json: Annotated[Path | None, arg(help="write the record here; - is stdout", metavar="FILE")] = (
        None
    )
    trust: Annotated[bool, arg(help=TRUST)] = False

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Export:
    """Write a trained agent for Stable-Baselines3: before adaptation, or adapted to a variant."""

    run: Annotated[Positional[Path], arg(help="folder of the run", metavar="RUN")]
    to: Annotated[Literal["sb3"], arg(help="sb3: a zip that PPO.load opens")] = "sb3"
    variant: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(metavar="NAME=VALUE", help="adapt to this variant first; once for each parameter"),
    ] = ()
    out: Annotated[
        Path | None,
        arg(metavar="FILE", help="by default sb3.zip or sb3-adapted.zip in the run's folder"),
    ] = None
    steps: Annotated[
        int | None, *number("inner steps on the variant; by default the run's --eval-steps", 0, 100)
    ] = None
    episodes: Annotated[
        int | None,
        *number("episodes of the variant for each step; by default the run's", 2, 100_000),
    ] = None
    seed: Annotated[int, *number("seed of the episodes", 0)] = 0
    trust: Annotated[bool, arg(help=TRUST)] = False

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Watch:
    """Adapt an agent to one variant; film an episode before and one after, side by side."""

    run: Annotated[Positional[Path], arg(help="folder of the run", metavar="RUN")]
    variant: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="NAME=VALUE",
            help="value of a parameter, once for each; the others are taken from --task",
        ),
    ] = ()
    split: Annotated[
        Split, arg(help="tasks: as in training, unseen (validation, test), or out of range")
    ] = "test"
    tasks: Annotated[int, *number("tasks to draw, as in `evaluate`", 1, 10_000)] = 40
    task: Annotated[int, *number("index of the task to watch, from 0", 0)] = 0
    steps: Annotated[
        int | None, *number("inner steps; by default those of the run's evaluations", 0, 100)
    ] = None
    episodes: Annotated[
        int | None, *number("episodes for each step; by default those of training", 2, 100_000)
    ] = None
    seed: Annotated[int, *number("seed of tasks and episodes", 0)] = 0
    out: Annotated[
        Path | None,
        arg(help="output, .gif or .mp4; by default watch.gif in the run's folder", metavar="FILE"),
    ] = None
    window: Annotated[bool, arg(help="show it in a window instead of writing a file")] = False
    device: Annotated[
        str | None, arg(help="auto, cpu, cuda or cuda:N; by default the run's --device")
    ] = None
    trust: Annotated[bool, arg(help=TRUST)] = False

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Families:
    """List all families with their sources; or show some, with parameters and spaces."""

    names: Annotated[Positional[tuple[str, ...]], arg(help="families to show in full")] = ()

    json: Annotated[bool, arg(help="as JSON on stdout")] = False
    check: Annotated[
        bool, arg(help="check that those that are named keep the rules of docs/extending.md")
    ] = False


@dataclass(frozen=True)
class Algos:
    """List the published algorithms, their sources, and the settings in which they differ."""

    json: Annotated[bool, arg(help="as JSON on stdout")] = False


COMMANDS: dict[str, type[Any]] = {
    "train": Train,
    "evaluate": Evaluate,
    "compare": Compare,
    "export": Export,
    "watch": Watch,
    "families": Families,
    "algos": Algos,
    "bench": Bench,
}
