"""The command line: `metarl train | evaluate | families | algos | bench`."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union

import tyro
from tyro.conf import Positional, arg, subcommand

from envs import RunError, Split, UsageError
from metarl.bounds import check, number
from metarl.config import RunConfig, TrainConfig
from metarl.presets import preset

USAGE, FAILURE, INTERRUPTED = 2, 1, 130  # exit codes


@dataclass(frozen=True)
class Train(RunConfig, TrainConfig):
    """Meta-train an agent over a family of variants, then show how it adapts to unseen ones."""

    run: Annotated[
        Path | None, arg(help="folder of the run; by default runs/FAMILY-ALGO-sSEED-DATE-TIME")
    ] = None
    resume: Annotated[
        Path | None,
        arg(help="go on with the run in this folder; only --iterations and --device may differ"),
    ] = None
    quiet: Annotated[bool, arg(help="no progress bar and no table")] = False
    json: Annotated[bool, arg(help="print the evaluation as JSON, and nothing else, on stdout")] = (
        False
    )


@dataclass(frozen=True)
class Evaluate:
    """Adapt a trained agent to tasks that it never saw; show the return after each inner step."""

    run: Annotated[Positional[Path], arg(help="folder of the run", metavar="RUN")]
    split: Annotated[Split, arg(help="which tasks: as in training, unseen, or out of range")] = (
        "test"
    )
    tasks: Annotated[int, *number("tasks to adapt to", 2, 10_000)] = 40
    episodes: Annotated[int, *number("episodes of each task for each step", 2, 100_000)] = 20
    steps: Annotated[int, *number("inner steps", 0, 100)] = 3
    seed: Annotated[int, *number("seed of tasks and episodes", 0)] = 0
    comparators: Annotated[
        bool,
        arg(help="beside an agent with a memory, what classical rules get: bandit, tabular-mdp"),
    ] = False
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N")] = "auto"
    json: Annotated[Path | None, arg(help="write the record here; - is stdout", metavar="FILE")] = (
        None
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Families:
    """List the families with their sources; those that are named, with parameters and spaces."""

    names: Annotated[Positional[tuple[str, ...]], arg(help="families to show in full")] = ()

    json: Annotated[bool, arg(help="as JSON on stdout")] = False


@dataclass(frozen=True)
class Algos:
    """List the published algorithms, their sources, and the settings in which they differ."""

    json: Annotated[bool, arg(help="as JSON on stdout")] = False


@dataclass(frozen=True)
class Bench:
    """Time one meta-iteration, phase by phase; or simulation alone, family by family."""

    workload: Annotated[
        Positional[str],
        arg(
            help="nav-20, nav-200 (200 tasks), nav-20-trpo, nav-20-trpo-quarter (its curvature "
            "from a quarter of the episodes), nav-20-promp, cheetah-40 (MuJoCo, the whole of "
            "ProMP), or sim"
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
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N")] = "auto"
    json: Annotated[Path | None, arg(help="write the record here; - is stdout", metavar="FILE")] = (
        None
    )

    def __post_init__(self) -> None:
        check(self)


COMMANDS: dict[str, type[Any]] = {
    "train": Train,
    "evaluate": Evaluate,
    "families": Families,
    "algos": Algos,
    "bench": Bench,
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code is 2 for a user's mistake, 1 for a failure while running."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "" not in sys.path:
        sys.path.append("")  # a user's `module:Class` lies in the folder where metarl is started
    # Environments draw their pictures without a screen, and would complain that there is none.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    try:
        return run(parse(words))
    except UsageError as error:
        return _complain(error, USAGE)
    except BrokenPipeError:  # who reads has seen enough, as in `metarl families | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (RunError, OSError) as error:
        return _complain(error, FAILURE)
    except KeyboardInterrupt as stop:
        return _complain(str(stop) or "stopped", INTERRUPTED)


def run(command: Any) -> int:
    """Carry out a parsed command."""
    from metarl import commands, listing

    carry_out: dict[type[Any], Callable[[Any], int]] = {
        Train: commands.train,
        Evaluate: commands.evaluate,
        Families: listing.families,
        Algos: listing.algos,
        Bench: commands.bench,
    }
    return carry_out[type(command)](command)


def parse(words: list[str]) -> Any:
    """The command that the words ask for, with the defaults of its family and algorithm.

    Raises:
        UsageError: unknown command or flag, or a value that can't be read.
    """
    name, rest = (words[0], words[1:]) if words else ("--help", [])
    if name not in COMMANDS:
        everything = Union[tuple(Annotated[c, subcommand(n)] for n, c in COMMANDS.items())]  # type: ignore[valid-type]  # noqa: UP007
        return _tyro("metarl", everything, [name, *rest])
    if name == "train":
        return _parse_train(rest)
    return _tyro(f"metarl {name}", COMMANDS[name], rest)


def _parse_train(words: list[str]) -> Any:
    """Read twice: family and algorithm, or the run to resume, decide the defaults of the rest."""
    no_help = [w for w in words if w not in ("-h", "--help")]
    asked, _ = _tyro("metarl train", Train, no_help, return_unknown_args=True)
    if asked.resume is None:
        chosen = preset(asked.family, asked.algo)
        return _tyro("metarl train", Train, words, default=Train(**dataclasses.asdict(chosen)))
    from metarl.run import read_config

    if asked.run is not None:
        raise UsageError(f"--run {asked.run}: leave it out with --resume, which names the folder.")
    train, run = read_config(asked.resume)
    saved = Train(**dataclasses.asdict(train), **dataclasses.asdict(run))
    got = _tyro("metarl train", Train, words, default=saved)
    for field in dataclasses.fields(Train):
        was, now = getattr(saved, field.name), getattr(got, field.name)
        if was != now and field.name not in ("resume", "iterations", "device", "quiet", "json"):
            raise UsageError(
                f"{asked.resume} was started with {field.name} {was}, not {now}: leave that out, "
                "or start a new run without --resume."
            )
    return got


def _tyro(prog: str, kind: Any, words: list[str], **how: Any) -> Any:
    """Let tyro read the words; its box of advice becomes one line."""
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.cli(kind, prog=prog, args=words, **how)
    except SystemExit as stop:
        if stop.code == 0:
            raise
        inside = [line for line in shown.getvalue().splitlines() if not re.match("[╭╰]", line)]
        text = " ".join(re.sub("[─│]+", " ", " ".join(inside)).split())
        raise UsageError(re.sub("^Error parsing [A-Z][a-z]+: ", "", text)) from stop


def _complain(error: object, code: int) -> int:
    print(f"metarl: {' '.join(str(error).split())}", file=sys.stderr)
    return code
