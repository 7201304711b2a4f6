"""An evaluation as a table of pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from metarl.envs import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from metarl.evaluation.evaluate import Evaluation

COLUMNS = ("task", "step", "return", "env_steps", "success", "oracle")


def data_frame(result: Evaluation) -> pd.DataFrame:
    """A row for each task and step: `COLUMNS`, between the first two and the rest its parameters.

    Raises:
        UsageError: pandas isn't installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise UsageError(
            'a data frame needs pandas, which isn\'t here: pip install "metarl-toolkit[pandas]"'
        ) from error
    tasks, steps = result.returns.shape
    unknown = np.full((tasks, steps), np.nan)
    success = unknown if result.success is None else result.success
    oracle = unknown if result.oracle is None else np.repeat(result.oracle[:, None], steps, axis=1)
    task, step = np.indices((tasks, steps))
    values = {
        f"parameter {name}" if name in COLUMNS else name: np.repeat(
            [params[name] for params in result.params], steps
        )
        for name in result.params[0]
    }
    columns = (task, step, result.returns, result.env_steps, success, oracle)
    first, second, *rest = zip(COLUMNS, (x.ravel() for x in columns), strict=True)
    return pd.DataFrame(dict([first, second, *values.items(), *rest]))
