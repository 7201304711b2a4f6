"""Trust checks: a run folder may import code or open files only if the user allows it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from metarl.config.named_code import trackers_in
from metarl.config.settings import RunConfig, TrainConfig
from metarl.envs import UsageError

WORD = re.compile(r"[\w +-]{1,100}")  # a value such as `4x4`, neither a path nor code


def named_code(train: TrainConfig) -> list[str]:
    """Names of user code that building the family and the network of these settings imports.

    A family may be `module:Class` or `module:Id-v0`, a parameter `module:function`, a network
    `module:Class`. The id of a registered environment names no user code: it imports an installed
    package.
    """
    names = (words.partition("=")[0].strip() for words in (*train.vary, *train.set))
    return [name for name in (train.family, *names, train.network) if ":" in name]


def named_hooks(run: RunConfig) -> list[str]:
    """What is imported to train with these settings: trackers and callbacks."""
    return [name for name in (*trackers_in(run.track), *run.callback) if ":" in name]


def named_files(train: TrainConfig, texts: Iterable[str] = ()) -> list[str]:
    """Values that an environment may open or import: words that look like a path or code.

    Args:
        texts: further texts that the family is built from.
    """
    found = [each for each in _words(train) if _may_be_opened(each.partition("=")[2])]
    return found + [text for text in texts if _may_be_opened(text)]


def check_trust(
    folder: Path, train: TrainConfig, texts: Iterable[str], trust: bool, advice: str
) -> None:
    """Raise UsageError if opening the run would import code or open files, unless trusted.

    Args:
        texts: as for `named_files`.
        trust: whether the user trusts the author of the folder.
        advice: how to grant trust, for the message.
    """
    code, files = named_code(train), named_files(train, texts)
    if trust or not (code or files):
        return
    what = f"import {', '.join(code)}"
    if not code:
        what = f"give {', '.join(files)} to {train.family}, which may open or import it"
    raise UsageError(
        f"{folder / 'config.json'}: opening this run would {what}: {advice} if you trust who made "
        "this folder."
    )


def check_hooks_trusted(folder: Path, run: RunConfig, trust: bool, advice: str) -> None:
    """Raise UsageError that says which trackers and callbacks training would import.

    Opening a run, or evaluating it, imports none of them.
    """
    hooks = named_hooks(run)
    if hooks and not trust:
        raise UsageError(
            f"{folder / 'config.json'}: training this run would import {', '.join(hooks)}: "
            f"{advice} if you trust who made this folder."
        )


def typed(
    asked: tuple[TrainConfig, RunConfig],
    found: tuple[TrainConfig, RunConfig],
    texts: Iterable[str],
) -> bool:
    """Whether the user typed all names and values that a run would import or open.

    Args:
        asked: settings of the command.
        found: settings that the run would be trained with.
        texts: as for `named_files`.
    """
    known = {*named_code(asked[0]), *_words(asked[0]), *named_hooks(asked[1])}
    train, run = found
    return {*named_code(train), *named_files(train, texts), *named_hooks(run)} <= known


def flag_for(train: TrainConfig, texts: Iterable[str], run: RunConfig | None = None) -> str:
    """` --trust` for a command that opens a run of these settings, where it needs that.

    Args:
        run: the command trains too, so that trackers and callbacks are imported.
    """
    hooks = named_hooks(run) if run else []
    return " --trust" if hooks or named_code(train) or named_files(train, texts) else ""


def _words(train: TrainConfig) -> tuple[str, ...]:
    """All NAME=VALUE words that define the family."""
    seen = (*train.vary, *train.hold_out, *train.validation, *train.extrapolate)
    return (*seen, *train.set)


def _may_be_opened(text: str) -> bool:
    """Whether any of the comma-separated words is not a number, a range or a plain word."""
    return not all(_harmless(word.strip()) for word in text.split(","))


def _harmless(word: str) -> bool:
    if all(_is_number(part) or part in ("log", "int") for part in word.split(":")):
        return True
    return WORD.fullmatch(word) is not None and not Path(word).exists()


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
