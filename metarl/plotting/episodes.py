"""The adaptation curve, and animations of episodes before and after adaptation."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw

from metarl.agents.learners.recurrent_agent import AnyAgent
from metarl.agents.rng import stream
from metarl.agents.rollouts.rollout import Last
from metarl.envs import Family, describe, sample_tasks, simulate, task_values
from metarl.evaluation.evaluate import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = np.ndarray[Any, Any]  # (H, W, 3) uint8
MAX_FRAMES = 100  # in an animation; longer episodes skip steps
MIN_WIDTH = 200  # pixels; narrower frames are enlarged
PAUSE = 1500  # milliseconds that an animation's last frame is shown
HEAD = 40  # pixels of the title above a frame
LINE, LETTER = 16, 6.5  # pixels: height of a line of text, mean width of a letter


def adaptation_curve(result: Evaluation) -> Figure:
    """Return against adaptation: each task faint, the mean with its interval, the oracle."""
    figure, axes = blank()
    steps = np.arange(result.returns.shape[1])
    axes.plot(steps, result.returns.T, color="0.75", linewidth=0.6, zorder=1)
    low, high = result.ci95.T
    label = f"95 % interval: {result.intervals}"
    style = {"color": "tab:blue", "alpha": 0.25, "linewidth": 0, "zorder": 2, "label": label}
    axes.fill_between(steps, low, high, **style)
    axes.plot(steps, result.mean, "o-", color="tab:blue", label="mean", zorder=3)
    if result.oracle is not None:
        axes.axhline(
            result.oracle.mean(), color="tab:green", linestyle="--", label="oracle, knows the task"
        )
    axes.set_xticks(steps)
    axes.set_xlabel(result.step_name)
    axes.set_ylabel(f"return, mean of {result.episodes} episodes")
    axes.set_title(f"{result.family}: {len(result.params)} {result.split} tasks (gray), adapting")
    axes.spines[["top", "right"]].set_visible(False)
    legend_below(figure, axes)
    return figure


def legend_below(figure: Any, axes: Any) -> None:
    """Place the legend below all axes, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)


def blank() -> tuple[Figure, Any]:
    """An empty figure and its axes; without a window, and without pyplot's list of figures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def pixels(figure: Figure) -> Picture:
    """The figure as it looks."""
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


class Film(NamedTuple):
    """Frames of an episode, at the reset and after each step."""

    frames: list[Picture]
    returns: list[float]  # cumulative, at each frame


def film(agent: AnyAgent, family: Family, task: Any, seed: int) -> Film:
    """Film one episode of one task."""
    device = task[0].device
    gen = stream(seed, "film", 0, device)
    simulator = simulate(family, task, 1, gen, render=True)
    obs, last = simulator.reset(), None
    shown = Film([simulator.frame()], [0.0])
    actor = agent.actor()
    for _ in range(family.horizon):
        with torch.no_grad():
            dist = actor(obs, last)
        act = dist.sample(dist.noise(gen=gen))
        obs, rew, terminated, truncated = simulator.step(act)
        last = Last(act, rew)
        shown.frames.append(simulator.frame())
        shown.returns.append(shown.returns[-1] + rew.item())
        if terminated.item() or truncated.item():
            break
    return shown


def before_and_after(
    agent: AnyAgent, family: Family, steps: int, episodes: int, seed: int, task: Any = None
) -> list[Picture]:
    """Frames of an episode before adaptation (left) and after (right).

    Args:
        task: one; by default an unseen one.
    """
    device = agent.device
    gen = stream(seed, "film task", 0, device)
    drawn = sample_tasks(family, 1, gen, "test", device)
    task = drawn if task is None else type(task)(*(x.to(device) for x in task))
    adapted = agent.adapt(family, task, steps, episodes, gen)
    names = ("before", after(steps, agent.step_name))
    films = [film(a, family, task, seed) for a in (agent, adapted)]
    return side_by_side(films, names, f"{family.name}: {describe(family, task_values(task)[0])}")


def after(steps: int, name: str) -> str:
    """`after 1 inner step`, `after 3 inner steps`."""
    return f"after {steps} {name if steps != 1 else name.removesuffix('s')}"


def side_by_side(films: Sequence[Film], names: Sequence[str], variant: str) -> list[Picture]:
    """Combine films frame by frame, each titled with its name, step and cumulative return.

    An episode that has ended shows its last frame, faded, until the longest one ends.

    Args:
        variant: description of the hidden parameters, shown above all films.
    """
    length = max(len(f.frames) for f in films)
    stride = -(-length // MAX_FRAMES)
    shown = sorted({*range(0, length, stride), length - 1})
    return [
        _sheet(
            [_frame(f, i) for f in films],
            [f"{name}\n{_caption(f, i)}" for f, name in zip(films, names, strict=True)],
            variant,
        )
        for i in shown
    ]


def _frame(shown: Film, step: int) -> Picture:
    """The frame at a step; after the end, the last one, faded."""
    if step < len(shown.frames):
        return shown.frames[step]
    return (shown.frames[-1] // 2 + 128).astype(np.uint8)


def _caption(shown: Film, step: int) -> str:
    end = len(shown.frames) - 1
    when = f"step {step}" if step < end else f"ended at step {end}"
    return f"{when}, return {shown.returns[min(step, end)]:.1f}"


def _sheet(pictures: list[Picture], titles: list[str], variant: str) -> Picture:
    """Two pictures next to each other; small ones are enlarged to make room for titles."""
    height, width = pictures[0].shape[:2]
    scale = -(-MIN_WIDTH // width)
    height, width = scale * height, scale * width
    lines = textwrap.wrap(variant, int((2 * width - 8) / LETTER))
    top = LINE * len(lines) + 8
    sheet = Image.new("RGB", (2 * width + 8, top + HEAD + height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((8, 4), "\n".join(lines), fill="black", font_size=12, spacing=3)
    for x, picture, title in zip((0, width + 8), pictures, titles, strict=True):
        large = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(large, (x, top + HEAD))
        draw.multiline_text(
            (x + width / 2, top + HEAD / 2),
            title,
            fill="black",
            anchor="mm",
            align="center",
            font_size=13,
        )
    return np.asarray(sheet)


def png(picture: Picture) -> bytes:
    """Encode as PNG."""
    return _encode([picture], "PNG")


def gif(frames: list[Picture], milliseconds: int = 80) -> bytes:
    """Encode as an animated GIF that loops, with a pause at the end."""
    times = [milliseconds] * (len(frames) - 1) + [PAUSE]
    return _encode(frames, "GIF", save_all=True, duration=times, loop=0)


def _encode(frames: list[Picture], kind: str, **how: Any) -> bytes:
    first, *rest = [Image.fromarray(f) for f in frames]
    file = io.BytesIO()
    first.save(file, kind, **({**how, "append_images": rest} if rest else how))
    return file.getvalue()
