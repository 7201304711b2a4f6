"""The variants with the lowest return after adaptation, and commands to watch them."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import NamedTuple

import numpy as np
from rich.console import Console

from metarl.envs import Choice, Family, describe, parameters
from metarl.evaluation.evaluate import Evaluation

NAMED = 4  # a variant with more parameters than this is specified by its index


class Variant(NamedTuple):
    """One task of an evaluation."""

    number: int  # index among the tasks of the evaluation
    params: dict[str, float]
    before: float  # return without adaptation
    after: float  # return after the last step
    oracle: float | None


def worst(result: Evaluation, n: int) -> list[Variant]:
    """The n tasks with the lowest return after adaptation, lowest first."""
    return [
        Variant(
            int(i),
            result.params[i],
            float(result.returns[i, 0]),
            float(result.returns[i, -1]),
            None if result.oracle is None else float(result.oracle[i]),
        )
        for i in np.argsort(result.returns[:, -1], kind="stable")[:n]
    ]


def replay(run: Path, family: Family, result: Evaluation, variant: Variant, flags: str = "") -> str:
    """The `metarl watch RUN ...` command for this task."""
    command = f"metarl watch {quote(str(run))}{flags}"
    known = parameters(family)
    if len(known) > NAMED:
        seed = f" --seed {result.seed}" if result.seed else ""
        count = f" --tasks {len(result.params)}"
        return f"{command} --split {result.split}{count}{seed} --task {variant.number}"
    for name, value in variant.params.items():
        parameter = known[name]
        shown = parameter.show(value) if isinstance(parameter, Choice) else str(np.float32(value))
        command += f" --variant {quote(f'{name}={shown}')}"
    return command


def show_worst(
    console: Console, run: Path, family: Family, result: Evaluation, n: int, flags: str = ""
) -> None:
    """Print a line and a command with `flags` for each of the n worst tasks."""
    if n:
        console.print("Lowest after adaptation:")
    for variant in worst(result, n):
        best = "" if variant.oracle is None else f" (oracle {variant.oracle:.2f})"
        values = describe(family, variant.params)
        line = f"  {variant.before:.2f} -> {variant.after:.2f}{best}  {values}"
        for text in (line, f"    {replay(run, family, result, variant, flags)}"):
            console.print(text, soft_wrap=True, highlight=False, markup=False)
