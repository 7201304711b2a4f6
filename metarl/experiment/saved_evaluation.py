"""The evaluation in a run's folder, which may be untrusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metarl.evaluation.result import Evaluation
from metarl.system.files import DAMAGED, RECORD, read_json


def saved_evaluation(folder: Path, env_steps: int) -> Evaluation | None:
    """The run's `evaluation.json`; None if missing, invalid or older than its last training."""
    try:
        record = read_json(folder / "evaluation.json", RECORD)
        found = Evaluation.from_json(record)
        valid = record["env_steps_trained"] == env_steps and _is_valid(found)
        return found if valid else None
    except (*DAMAGED, KeyError, TypeError, IndexError, AttributeError):
        return None  # damaged, or of an older version: evaluate again


def _is_valid(found: Evaluation) -> bool:
    """Whether the tables of an untrusted evaluation are finite and have consistent shapes."""
    tables = [found.returns, found.env_steps]
    tables += [x for x in (found.success,) if x is not None]
    shapes = {x.shape for x in tables}
    if found.oracle is not None:
        tables.append(found.oracle)
    numbers = all(x.dtype.kind in "if" and np.isfinite(x).all() for x in tables)
    rows = len(found.params) == len(found.returns) == len(tables[-1])
    rows = rows and type(found.deterministic) is bool
    return numbers and rows and len(shapes) == 1 and found.returns.ndim == 2
