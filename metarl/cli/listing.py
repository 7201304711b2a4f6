"""`metarl families` and `metarl algos`: list families and algorithms."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metarl.cli.json_output import print_json
from metarl.config.published import ALGORITHMS
from metarl.config.settings import TrainConfig
from metarl.envs.core.errors import UsageError
from metarl.envs.core.summarize import fold

if TYPE_CHECKING:
    from metarl.cli.arguments import Algos, Families

MANY = 6  # more parameters than this are counted instead of named
# The records of `family_records` for all families, so that listing them doesn't import torch.
# Written by `python tests/write_families.py`.
FILE = Path(__file__).parent / "families.json"


def families(command: Families) -> int:
    """List all families in a table, or show the named ones in full."""
    if command.check:
        return _check(command.names)
    if command.names:
        from metarl.cli.family_records import record as ask  # loads torch

        records = [ask(name) for name in command.names]
    else:
        records = list(_shipped())
    if command.json:
        print_json(records)
    elif command.names:
        for record in records:
            _show_one(Console(markup=False), record)
    else:
        _show_all(Console(markup=False), records)
    return 0


def _check(names: tuple[str, ...]) -> int:
    """Check each; the first rule that one breaks is an error."""
    from metarl.envs import check_family, make_family

    if not names:
        raise UsageError("--check: name the families to check, such as my_module:MyFamily.")
    for name in names:
        rules = check_family(make_family(name))
        print(f"{name} keeps the rules: {'; '.join(rules)}")
    return 0


def _shipped() -> Iterator[dict[str, Any]]:
    """All records; for a missing package, how to install it instead."""
    for record in json.loads(FILE.read_text()):
        without = record.pop("without")  # package -> message if it is missing
        missing = [
            text for package, text in without.items() if not importlib.util.find_spec(package)
        ]
        yield {"name": record["name"], "needs": missing[0]} if missing else record


def _hidden(record: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Parameters with unit and ranges; similar ones are merged."""
    return fold(record["parameters"], lambda parameter: (parameter["train"], parameter["allowed"]))


def _show_all(console: Console, records: list[dict[str, Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("family", "hidden", "unseen tasks", "source"):
        table.add_column(column, no_wrap=column == "family")
    missing: dict[str, list[str]] = {}  # by the command that installs them
    for record in records:
        if "needs" in record:
            missing.setdefault(record["needs"].rpartition(": ")[2], []).append(record["name"])
            continue
        hidden = list(_hidden(record))
        shown = ", ".join(hidden) if len(hidden) <= MANY else f"{len(hidden)} parameters"
        table.add_row(record["name"], shown, record["unseen"], record["source"])
    console.print(table)
    for command, names in missing.items():
        console.print(f"{command} for {', '.join(names)}", soft_wrap=True, highlight=False)
    console.print("Details: metarl families NAME", highlight=False)


def _show_one(console: Console, record: dict[str, Any]) -> None:
    title = Text.assemble(
        "\n", (record["name"], "bold"), f"  {record.get('needs') or record['about']}"
    )
    console.print(title)
    if "needs" in record:
        return
    keys = ("source", "unseen", "validation", "horizon")
    for key in (*keys, "observation_space", "action_space", "gymnasium_id"):
        if key in record:
            console.print(f"{key.replace('_', ' ')}: {record[key]}", highlight=False)
    if "could_vary" in record:
        _show_choices(console, record)
        return
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("parameter", "unit", "train range", "allowed"):
        table.add_column(column)
    for name, parameter in _hidden(record).items():
        table.add_row(name, parameter["unit"], parameter["train"], parameter["allowed"])
    console.print(table)


def _show_choices(console: Console, record: dict[str, Any]) -> None:
    """Show what may vary in a Gymnasium environment, and an example command."""
    for place, found in record["could_vary"].items():
        shown = ", ".join(f"{k}={v}" for k, v in found.items())
        console.print(f"{place}: {shown or 'none'}", highlight=False)
    console.print(f"Say what varies: {record['example']}", soft_wrap=True, highlight=False)


def algos(command: Algos) -> int:
    """List all algorithms with the settings in which they differ from the defaults."""
    if command.json:
        records = [{"name": name, **dataclasses.asdict(a)} for name, a in ALGORITHMS.items()]
        print_json(records)
        return 0
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("algorithm", "what it does", "settings", "source"):
        table.add_column(column, no_wrap=column == "algorithm")
    for name, algorithm in ALGORITHMS.items():
        differs = {k: v for k, v in algorithm.settings.items() if v != getattr(TrainConfig, k)}
        settings = "  ".join(f"{k}={v}" for k, v in differs.items()) or "the defaults"
        table.add_row(name, algorithm.about, settings, algorithm.source)
    console = Console(markup=False)
    console.print(table)
    console.print(
        "Each setting is a flag: metarl train FAMILY --algo NAME --fast head", highlight=False
    )
    return 0
