"""An evaluation as a table of pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from metarl.envs import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from metarl.evaluation.statistics import Array

COLUMNS = ("task", "step", "return", "env_steps", "success", "oracle")


def data_frame(
    params: Sequence[Mapping[str, float]],
    returns: Array,
    env_steps: Array,
    success: Array | None,
    oracle: Array | None,
) -> pd.DataFrame:
    """A row for each task and step: `COLUMNS`, between the first two and the rest its parameters.

    Args:
        params: of M tasks.
        returns: (M, K + 1), as `env_steps` and `success`.
        oracle: (M,)
    Raises:
        UsageError: pandas isn't installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise UsageError(
            'a data frame needs pandas, which isn\'t here: pip install "metarl-toolkit[pandas]"'
        ) from error
    steps = returns.shape[1]
    unknown = np.full(returns.shape, np.nan)
    success = unknown if success is None else success
    oracle = unknown if oracle is None else np.repeat(oracle[:, None], steps, axis=1)
    task, step = np.indices(returns.shape)
    values = {
        f"parameter {name}" if name in COLUMNS else name: np.repeat(
            [each[name] for each in params], steps
        )
        for name in params[0]
    }
    columns = (task, step, returns, env_steps, success, oracle)
    first, second, *rest = zip(COLUMNS, (x.ravel() for x in columns), strict=True)
    return pd.DataFrame(dict([first, second, *values.items(), *rest]))
