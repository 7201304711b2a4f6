"""The command line: `metarl COMMAND ...`; the commands are those of `COMMANDS`."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import io
import os
import re
import sys
from importlib import import_module
from typing import Annotated, Any, Union

import tyro
from tyro.conf import subcommand

from metarl.cli.arguments import (
    COMMANDS,
    Algos,
    Bench,
    Compare,
    Evaluate,
    Export,
    Families,
    Train,
    Watch,
)
from metarl.cli.json_output import only_json
from metarl.cli.terminal import tolerate_lost_readers
from metarl.config.presets import preset
from metarl.envs import RunError, UsageError
from metarl.system.machine import keep_memory
from metarl.system.signals import stop_on_signals

MAY_DIFFER = (
    *("resume", "iterations", "device", "processes", "rank_timeout", "quiet", "json", "trust"),
    "callback",
)
# Module and function of each command, imported when it runs.
CARRIED_OUT = {
    Train: ("metarl.cli.train", "train"),
    Evaluate: ("metarl.cli.evaluate", "evaluate"),
    Compare: ("metarl.cli.compare", "compare_runs"),
    Export: ("metarl.cli.export", "export"),
    Watch: ("metarl.cli.watch", "watch"),
    Families: ("metarl.cli.listing", "families"),
    Algos: ("metarl.cli.listing", "algos"),
    Bench: ("metarl.cli.bench", "bench"),
}
USAGE, FAILURE, INTERRUPTED = 2, 1, 130  # exit codes


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code is 2 for a user's mistake, 1 for a failure while running."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Without --window, environments render off-screen and must not look for a display.
    if "--window" not in words:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    if sys.platform == "linux" and "DISPLAY" not in os.environ and "MUJOCO_GL" not in os.environ:
        with contextlib.suppress(OSError):  # must be set before MuJoCo is imported
            ctypes.CDLL("libEGL.so.1")
            os.environ["MUJOCO_GL"] = "egl"
    tolerate_lost_readers()
    try:
        with stop_on_signals():
            return run(parse(words))
    except UsageError as error:
        return _report(error, USAGE)
    except (RunError, OSError) as error:
        return _report(error, FAILURE)
    except KeyboardInterrupt as stop:
        return _report(str(stop) or "stopped", INTERRUPTED)


def run(command: Any) -> int:
    """Run a parsed command."""
    keep_memory()
    module, function = CARRIED_OUT[type(command)]
    json = getattr(command, "json", None)
    with only_json(json is True or str(json) == "-"):
        code: int = getattr(import_module(module), function)(command)
    return code


def parse(words: list[str]) -> Any:
    """Parse a command, with the defaults of its family and algorithm.

    Raises:
        UsageError: unknown command or flag, or an invalid value.
    """
    name, rest = (words[0], words[1:]) if words else ("--help", [])
    if name not in COMMANDS:
        commands = Union[tuple(Annotated[c, subcommand(n)] for n, c in COMMANDS.items())]  # type: ignore[valid-type]  # noqa: UP007
        return _tyro("metarl", commands, [name, *rest])
    if name == "train":
        return _parse_train(rest)
    return _tyro(f"metarl {name}", COMMANDS[name], rest)


def _parse_train(words: list[str]) -> Any:
    """Parse twice: family and algorithm, or the run to resume, determine the defaults."""
    no_help = [w for w in words if w not in ("-h", "--help")]
    asked, _ = _tyro("metarl train", Train, no_help, return_unknown_args=True)
    if asked.resume is None:
        chosen = preset(asked.family, asked.algo)
        return _tyro("metarl train", Train, words, default=Train(**dataclasses.asdict(chosen)))
    from metarl.config.family_record import texts
    from metarl.config.settings_file import read_settings
    from metarl.config.trust import typed

    if asked.run is not None:
        raise UsageError(f"--run {asked.run}: leave it out with --resume, which names the folder.")
    found = read_settings(asked.resume)
    saved = Train(**dataclasses.asdict(found.train), **dataclasses.asdict(found.run))
    got = _tyro("metarl train", Train, words, default=saved)
    for field in dataclasses.fields(Train):
        was, now = getattr(saved, field.name), getattr(got, field.name)
        decay_off = field.name == "lr_decay" and not now
        if was != now and field.name not in MAY_DIFFER and not decay_off:
            raise UsageError(
                f"{asked.resume} was started with {field.name} {was}, not {now}: leave that out, "
                "or start a new run without --resume."
            )
    got = dataclasses.replace(got, callback=asked.callback or found.run.callback)
    known = typed((asked, asked), (found.train, got), texts(found.family))
    return dataclasses.replace(got, trust=got.trust or known)


def _tyro(prog: str, kind: Any, words: list[str], **how: Any) -> Any:
    """Parse with tyro and turn its error box into a one-line UsageError."""
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            return tyro.cli(kind, prog=prog, args=words, **how)
    except SystemExit as stop:
        if stop.code == 0:
            raise
        lines = stderr.getvalue().splitlines()
        if lines and not lines[0].startswith("╭"):  # without a box: skip the title and the rule
            lines = lines[2:]
        inside = [line for line in lines if not re.match("[╭╰]|  *-{5,} *$", line)]
        text = " ".join(re.sub("[─│]+", " ", " ".join(inside)).split())
        raise UsageError(re.sub("^Error parsing [A-Z][a-z]+: ", "", text)) from stop


def _report(error: object, code: int) -> int:
    # All ranks make the same usage error: only the first on each machine prints it.
    if os.environ.get("LOCAL_RANK", "0") == "0" or code == FAILURE:
        print(f"metarl: {' '.join(str(error).split())}", file=sys.stderr)
    return code
