"""`metarl families` and `metarl algos`: what there is to train on, and by which rule."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from envs import (
    FAMILIES,
    Family,
    UsageError,
    folded,
    gymnasium_id,
    make_family,
    parameters,
    unseen,
)
from envs.family import allowed
from metarl.algorithms import ALGORITHMS
from metarl.config import TrainConfig

if TYPE_CHECKING:
    from metarl.arguments import Algos, Families

MANY = 6  # parameters; more are counted, not named


def usable() -> Iterator[str]:
    """Families whose packages are here."""
    for name in FAMILIES:
        try:
            make_family(name)
        except UsageError:
            continue
        yield name


def families(command: Families) -> int:
    """All families in a table; those that are named, in full."""
    names = command.names or tuple(FAMILIES)
    records = [_record(name) for name in names]
    if command.json:
        print(json.dumps(records))
    elif command.names:
        for record in records:
            _show_one(Console(), record)
    else:
        _show_all(Console(), records)
    return 0


def _record(name: str) -> dict[str, Any]:
    try:
        family = make_family(name)
    except UsageError as error:  # a package that isn't installed; an unknown name is not listed
        if name not in FAMILIES:
            raise
        return {"name": name, "needs": str(error)}
    record: dict[str, Any] = {
        "name": name,
        "about": _about(family),
        "source": getattr(family, "source", "your own"),
        "unseen": unseen(family),
        "parameters": {
            k: {"unit": p.unit, "train": str(p), "allowed": allowed(p)}
            for k, p in parameters(family).items()
        },
    }
    if not hasattr(family, "recipe"):  # a Gymnasium environment's are known once it was made
        record |= {
            "horizon": family.horizon,
            "observation_space": str(family.observation_space),
            "action_space": str(family.action_space),
        }
    if not hasattr(family, "simulate"):
        record["gymnasium_id"] = gymnasium_id(family)
    return record


def _about(family: Family) -> str:
    about = getattr(family, "about", None) or type(family).__doc__ or ""
    return str(about).strip().split("\n")[0]


def _show_all(console: Console, records: list[dict[str, Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("family", "hidden", "unseen tasks", "source"):
        table.add_column(column, no_wrap=column == "family")
    for record in records:
        if "needs" in record:
            table.add_row(record["name"], record["needs"], "", "")
            continue
        hidden = list(folded(parameters(make_family(record["name"]))))
        shown = ", ".join(hidden) if len(hidden) <= MANY else f"{len(hidden)} parameters"
        table.add_row(record["name"], shown, record["unseen"], record["source"])
    console.print(table)
    console.print("More of one: metarl families NAME", highlight=False)


def _show_one(console: Console, record: dict[str, Any]) -> None:
    console.print(f"\n[bold]{record['name']}[/bold]  {record.get('needs') or record['about']}")
    if "needs" in record:
        return
    for key in ("source", "unseen", "horizon", "observation_space", "action_space", "gymnasium_id"):
        if key in record:
            console.print(f"{key.replace('_', ' ')}: {record[key]}", highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("parameter", "unit", "train range", "allowed"):
        table.add_column(column)
    for k, p in folded(parameters(make_family(record["name"]))).items():
        table.add_row(k, p.unit, str(p), allowed(p))
    console.print(table)


def algos(command: Algos) -> int:
    """All algorithms with the settings that they fix otherwise than the default."""
    if command.json:
        records = [{"name": name, **dataclasses.asdict(a)} for name, a in ALGORITHMS.items()]
        print(json.dumps(records))
        return 0
    defaults = TrainConfig()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("algorithm", "what it does", "settings", "source"):
        table.add_column(column, no_wrap=column == "algorithm")
    for name, algorithm in ALGORITHMS.items():
        differs = {k: v for k, v in algorithm.settings.items() if v != getattr(defaults, k)}
        settings = "  ".join(f"{k}={v}" for k, v in differs.items()) or "the defaults"
        table.add_row(name, algorithm.about, settings, algorithm.source)
    console = Console()
    console.print(table)
    console.print(
        "All of these are flags: metarl train FAMILY --algo NAME --fast head", highlight=False
    )
    return 0
