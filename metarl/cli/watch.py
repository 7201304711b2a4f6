"""`metarl watch`: film an agent before and after adaptation to one variant."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from metarl.agents.rng import stream
from metarl.config.task_spec import named_values
from metarl.envs import (
    Family,
    UsageError,
    can_be_filmed,
    describe,
    make_task,
    sample_tasks,
    task_values,
)
from metarl.experiment.final_evaluation import set_up
from metarl.experiment.run import open_run
from metarl.plotting.episodes import PAUSE, Picture, after, film, gif, side_by_side
from metarl.system.files import check_output, write_atomically
from metarl.system.user_errors import report_user_errors

if TYPE_CHECKING:
    from metarl.cli.arguments import Watch

MILLISECONDS = 80  # that a frame is shown


def watch(command: Watch) -> int:
    """`metarl watch RUN`: adapt to one variant, and film an episode before and one after."""
    out = command.out or command.run / "watch.gif"
    _check_out(out)
    job = open_run(command.run, command.device, trust=command.trust, advice="give --trust")
    set_up(job.run)
    family, agent = job.family, job.state.agent
    task = choose_task(command, family, agent.device)
    if not can_be_filmed(family):
        raise UsageError(_why_no_pictures(family))
    console = Console(markup=False)
    variant = describe(family, task_values(task)[0])
    console.print(f"{family.name}: {variant}", soft_wrap=True, highlight=False, markup=False)
    steps = job.run.eval_steps if command.steps is None else command.steps
    episodes = command.episodes or job.train.episodes
    gen = stream(command.seed, "watch", 0, agent.device)
    with report_user_errors(family):
        adapted = agent.adapt(family, task, steps, episodes, gen)
        films = [film(a, family, task, command.seed) for a in (agent, adapted)]
    names = ("before", after(steps, agent.step_name))
    for name, shown in zip(names, films, strict=True):
        console.print(f"{name}: return {shown.returns[-1]:.2f} in {len(shown.returns) - 1} steps")
    frames = side_by_side(films, names, f"{family.name}: {variant}")
    if command.window:
        from metarl.plotting.viewer import play

        play(frames, f"{family.name}: {variant}", MILLISECONDS)
        return 0
    written = save(frames, out)
    if written != out:
        console.print(
            f"{out} needs ffmpeg (pip install -c constraints.txt -e '.[video]'): writing a GIF "
            "instead.",
            soft_wrap=True,
            markup=False,
        )
    console.print(f"Film: {written}", soft_wrap=True, highlight=False)
    return 0


def _why_no_pictures(family: Family) -> str:
    if hasattr(family, "simulate") and importlib.util.find_spec("mujoco"):
        return (
            f"{family.name} can't be rendered here: a MuJoCo environment needs OpenGL: set "
            "MUJOCO_GL=egl or MUJOCO_GL=osmesa, whichever is installed; other environments need "
            "the render mode rgb_array."
        )
    return (
        f"{family.name} can't be rendered: see its runs with `metarl evaluate --plot`, or give "
        "the family a frame(state, task)."
    )


def choose_task(command: Watch, family: Family, device: torch.device) -> Any:
    """The task with index `--task` of the split, with the parameters of `--variant` replaced.

    Raises:
        UsageError: no such task, parameter or value.
    """
    if not 0 <= command.task < command.tasks:
        raise UsageError(
            f"--task {command.task}: there are {command.tasks} tasks: give one in "
            f"[0, {command.tasks - 1}], or more --tasks."
        )
    named = named_values(family, command.variant)
    gen = stream(command.seed, f"evaluate {command.split} tasks", 0, device)
    drawn = sample_tasks(family, command.tasks, gen, command.split, device)
    task = make_task(family, **{**task_values(drawn)[command.task], **named})
    return type(task)(*(x.to(device) for x in task))


def _check_out(out: Path) -> None:
    """Raise UsageError, before any episode, for a film that can't be written."""
    if out.suffix not in (".gif", ".mp4"):
        raise UsageError(f"--out {out}: unknown ending; give a file that ends in .gif or .mp4.")
    check_output("--out", out)


def save(frames: list[Picture], out: Path) -> Path:
    """Write a GIF or MP4 depending on the suffix, always a GIF without ffmpeg; return its path."""
    if out.suffix == ".mp4" and _has_ffmpeg():
        _mp4(frames, out)
        return out
    out = out.with_suffix(".gif")
    write_atomically(out, gif(frames, MILLISECONDS))
    return out


def _has_ffmpeg() -> bool:
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return False
    import imageio_ffmpeg  # type: ignore[import-untyped]

    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        return False
    return True


def _mp4(frames: list[Picture], out: Path) -> None:
    import imageio_ffmpeg

    height, width = (n - n % 2 for n in frames[0].shape[:2])  # the codec requires even sizes
    with tempfile.TemporaryDirectory() as folder:  # ffmpeg would follow a link at `out`
        file = Path(folder) / "film.mp4"
        writer = imageio_ffmpeg.write_frames(
            str(file), (width, height), fps=1000 / MILLISECONDS, macro_block_size=2
        )
        writer.send(None)
        for frame in [*frames, *frames[-1:] * (PAUSE // MILLISECONDS)]:
            writer.send(frame[:height, :width].tobytes())
        writer.close()
        write_atomically(out, file.read_bytes())
