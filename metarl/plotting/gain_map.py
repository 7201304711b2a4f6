"""Maps of the gain by adaptation over a family's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metarl.envs import Choice, Family, UsageError, parameters
from metarl.envs.core.parameters import Parameter
from metarl.evaluation.evaluate import Array, Evaluation
from metarl.plotting.episodes import blank, legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LABELS = 12  # on an axis of distinct values; with more values, some labels are skipped


class Axis(NamedTuple):
    """A parameter's values in M tasks, binned into cells."""

    label: str
    place: Array  # (M,) position on the axis: the value, or its rank for a `Choice`
    edges: np.ndarray[Any, Any]  # (cells + 1,)
    names: list[str]  # labels of the cells of a `Choice`; empty for a `Range`
    log: bool

    @property
    def cell(self) -> np.ndarray[Any, Any]:
        """Index of each task's cell, (M,)."""
        return np.searchsorted(self.edges[1:-1], self.place, side="right")


def gain_map(result: Evaluation, family: Family, names: tuple[str, ...] = ()) -> Figure:
    """Gain of the last step over no adaptation, task by task, against one or two parameters.

    One `Range` gives a curve, one `Choice` bars, two parameters a heat map.

    Args:
        names: the parameters to show; by default, the two that explain most of the gain.
    Raises:
        UsageError: unknown parameters, or more than two.
    """
    known = parameters(family)
    wrong = [name for name in names if name not in known]
    if wrong or len(names) > 2:
        raise UsageError(
            f"gain over {', '.join(wrong or names)}: give one or two of {', '.join(known)}."
        )
    names = names or most_telling(result, family)
    # About three tasks in each cell of a heat map, and five in each cell of a curve.
    cells = len(result.params) / 5 if len(names) == 1 else (len(result.params) / 3) ** 0.5
    shown = [_axis(name, known[name], result, cells) for name in names]
    gain = _gain(result)
    figure, plot = blank()
    steps = result.returns.shape[1] - 1
    plot.set_title(
        f"{result.family}: gain of {steps} {result.step_name}, {len(gain)} {result.split} tasks"
    )
    if len(shown) == 2:
        _heat_map(figure, plot, shown[0], shown[1], gain)
    elif shown[0].names:
        _bars(plot, shown[0], gain)
    else:
        _curve(plot, shown[0], gain)
    return figure


def most_telling(result: Evaluation, family: Family) -> tuple[str, ...]:
    """The two parameters that explain most of the gain; one if only one varies."""
    axes = {name: _axis(name, p, result, 4) for name, p in parameters(family).items()}
    varied = [name for name, axis in axes.items() if np.ptp(axis.place) > 0]
    shares = {name: explained(_gain(result), axes[name].cell) for name in varied}
    return tuple(sorted(shares, key=shares.__getitem__, reverse=True)[:2] or list(axes)[:1])


def _gain(result: Evaluation) -> Array:
    gain: Array = result.returns[:, -1] - result.returns[:, 0]
    return gain


def explained(gain: Array, cell: np.ndarray[Any, Any]) -> float:
    """Share of the gain's variance that cells explain, corrected for chance; -inf if undefined.

    Source: epsilon squared, Kelley 1935 (Proceedings of the National Academy of Sciences 21).
    """
    groups = [gain[cell == c] for c in np.unique(cell)]
    free = len(gain) - len(groups)
    total = float(((gain - gain.mean()) ** 2).sum())
    if free == 0 or total == 0:
        return -np.inf
    within = sum(float(((g - g.mean()) ** 2).sum()) for g in groups)
    return 1 - within / free * (len(gain) - 1) / total


def _axis(name: str, parameter: Parameter, result: Evaluation, cells: float) -> Axis:
    """The axis of a parameter; a `Range` is divided into cells of the same width."""
    values = np.array([p[name] for p in result.params])
    label = f"{name} ({parameter.unit})" if parameter.unit else name
    if isinstance(parameter, Choice):
        distinct, rank = np.unique(values, return_inverse=True)
        edges = np.arange(len(distinct) + 1) - 0.5
        return Axis(label, rank.astype(float), edges, [parameter.show(v) for v in distinct], False)
    low, high = (
        parameter.bounds if result.split == "extrapolate" else (parameter.low, parameter.high)
    )
    space = np.geomspace if parameter.log else np.linspace
    edges = space(low, high, int(np.clip(cells, 2, 12)) + 1)
    return Axis(label, values, edges, [], parameter.log)


def _means(gain: Array, *cells: np.ndarray[Any, Any], shape: tuple[int, ...]) -> Array:
    """Mean gain of each cell; NaN for empty cells."""
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, cells, gain)
    np.add.at(count, cells, 1)
    means: Array = np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)
    return means


def _heat_map(figure: Any, plot: Any, x: Axis, y: Axis, gain: Array) -> None:
    """Draw the means of cells; on continuous axes, also tasks as points in the same colors."""
    shape = (len(y.edges) - 1, len(x.edges) - 1)
    means = _means(gain, y.cell, x.cell, shape=shape)
    colors = _colors(gain)
    plot.set_facecolor("0.85")  # empty cells
    mesh = plot.pcolormesh(x.edges, y.edges, means, **colors)
    figure.colorbar(mesh, ax=plot, label="gain in return")
    if not (x.names and y.names):
        plot.scatter(x.place, y.place, c=gain, **colors, s=28, edgecolors="black", linewidths=0.6)
    elif shape[1] <= MAX_LABELS and shape[0] <= 2 * MAX_LABELS:  # more would overlap
        digits = _digits(gain)
        for (row, column), mean in np.ndenumerate(means):
            if np.isfinite(mean):
                box = {"facecolor": "white", "alpha": 0.7, "linewidth": 0}
                text = f"{round(mean, digits) + 0.0:.{digits}f}"  # + 0.0: no minus zero
                plot.text(column, row, text, ha="center", va="center", bbox=box)
    _label(plot.xaxis, plot.set_xscale, x)
    _label(plot.yaxis, plot.set_yscale, y)


def _digits(gain: Array) -> int:
    """Decimals for three significant digits of the largest gain: 5e-9 next to 30 is 0.0."""
    largest = float(np.abs(gain).max())
    return int(np.clip(2 - np.floor(np.log10(largest)), 0, 6)) if largest else 0


def _colors(gain: Array) -> dict[str, Any]:
    """Blue for gains and red for losses; a sequential color map if all have the same sign."""
    low, high = float(gain.min()), float(gain.max())
    if low < 0 < high:
        bound = max(-low, high)
        return {"cmap": "RdBu", "vmin": -bound, "vmax": bound}
    return {"cmap": "viridis", "vmin": low, "vmax": high}


def _curve(plot: Any, x: Axis, gain: Array) -> None:
    """Draw a point for each task, and the means of the cells."""
    plot.plot(x.place, gain, "o", color="tab:blue", alpha=0.5, markersize=4, label="task")
    means = _means(gain, x.cell, shape=(len(x.edges) - 1,))
    plot.stairs(means, x.edges, color="tab:blue", linewidth=2, baseline=None, label="mean")
    _label(plot.xaxis, plot.set_xscale, x)
    _zero(plot)
    legend_below(plot.figure, plot)


def _bars(plot: Any, x: Axis, gain: Array) -> None:
    """Draw a bar for the mean of each value, and a point for each task."""
    means = _means(gain, x.cell, shape=(len(x.names),))
    plot.bar(np.arange(len(means)), means, color="tab:blue", alpha=0.4, width=0.7, label="mean")
    plot.plot(x.place, gain, "o", color="tab:blue", alpha=0.5, markersize=4, label="task")
    _label(plot.xaxis, plot.set_xscale, x)
    _zero(plot)
    legend_below(plot.figure, plot)


def _zero(plot: Any) -> None:
    plot.axhline(0, color="0.5", linewidth=0.8)
    plot.set_ylabel("gain in return")
    plot.spines[["top", "right"]].set_visible(False)


def _label(side: Any, scale: Any, axis: Axis) -> None:
    """Set the label and ticks of one axis of a plot."""
    side.set_label_text(axis.label)
    if axis.names:
        stride = -(-len(axis.names) // MAX_LABELS)
        side.set_ticks(range(0, len(axis.names), stride), axis.names[::stride])
        # Labels on the y axis always fit; on the x axis, about 60 letters do.
        shown = axis.names[::stride]
        if side.axis_name == "x" and max(map(len, shown)) * len(shown) > 60:
            side.set_tick_params(rotation=90 if len(shown) > 6 else 30)
    elif axis.log:
        from matplotlib.ticker import NullLocator

        scale("log")
        low, high = axis.edges[0], axis.edges[-1]
        # Round numbers, few enough that their labels don't overlap.
        ticks = [
            m * 10.0**e for e in range(-9, 10) for m in ((1, 2, 5) if high < 50 * low else (1,))
        ]
        side.set_ticks([t for t in ticks if low <= t * 1.001 and t <= high * 1.001])
        side.set_minor_locator(NullLocator())
        side.set_major_formatter("{x:g}")
