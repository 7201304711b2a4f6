"""The evaluation that a run's folder holds; the folder may be anyone's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metarl.evaluation.evaluate import Evaluation
from metarl.system.files import DAMAGED, RECORD, read_json


def saved_evaluation(folder: Path, env_steps: int) -> Evaluation | None:
    """The run's `evaluation.json`, unless it has been trained further since; None where none is."""
    try:
        record = read_json(folder / "evaluation.json", RECORD)
        found = Evaluation.from_json(record)
        whole = record["env_steps_trained"] == env_steps and _is_whole(found)
        return found if whole else None
    except (*DAMAGED, KeyError, TypeError, IndexError, AttributeError):
        return None  # or one that an older metarl wrote, or damaged: it can be made anew


def _is_whole(found: Evaluation) -> bool:
    """Whether its tables are numbers, of the same tasks and steps; it may be anyone's."""
    tables = [found.returns, found.env_steps]
    tables += [x for x in (found.success,) if x is not None]
    shapes = {x.shape for x in tables}
    if found.oracle is not None:
        tables.append(found.oracle)
    numbers = all(x.dtype.kind in "if" and np.isfinite(x).all() for x in tables)
    rows = len(found.params) == len(found.returns) == len(tables[-1])
    return numbers and rows and len(shapes) == 1 and found.returns.ndim == 2
