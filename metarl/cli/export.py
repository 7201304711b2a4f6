"""`metarl export`: write an agent for other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from metarl.agents.rng import stream
from metarl.config.task_spec import parse_variant
from metarl.envs import UsageError, describe, task_values
from metarl.experiment.final_evaluation import set_up
from metarl.experiment.loaded_run import Run
from metarl.experiment.run import open_run
from metarl.sb3.interop import save_sb3, to_sb3
from metarl.system.files import check_output
from metarl.system.user_errors import report_user_errors

if TYPE_CHECKING:
    from metarl.cli.arguments import Export


def export(command: Export) -> int:
    """`metarl export RUN --to sb3`: write the slow or adapted weights as SB3's PPO."""
    asked = {"--steps": command.steps, "--episodes": command.episodes}
    if not command.variant and (left := [k for k, v in asked.items() if v is not None]):
        raise UsageError(f"{left[0]}: there is no variant to adapt to: give --variant NAME=VALUE.")
    name = "sb3-adapted.zip" if command.variant else "sb3.zip"
    path: Path = command.out or command.run / name
    check_output("--out", path)
    job = open_run(command.run, "cpu", trust=command.trust, advice="give --trust")
    set_up(job.run)
    agent: Any = job.state.agent
    to_sb3(agent, job.family)  # raises before any episode if the agent can't be exported
    what = "slow weights, before adaptation"
    if command.variant:
        agent, what = _adapted(command, job)
    model = to_sb3(agent, job.family, job.train.gamma, job.train.gae_lambda)
    save_sb3(model, path)
    console = Console(markup=False)
    console.print(f"{path}: {what}", soft_wrap=True, highlight=False)
    console.print(
        f'Load it with stable_baselines3.PPO.load("{path}")', soft_wrap=True, highlight=False
    )
    return 0


def _adapted(command: Export, job: Run) -> tuple[Any, str]:
    """The agent adapted to the variant, and a description with the returns."""
    task = parse_variant(job.family, command.variant)
    steps = job.run.eval_steps if command.steps is None else command.steps
    episodes = command.episodes or job.train.episodes
    gen = stream(command.seed, "export")
    agent: Any = job.state.agent
    with report_user_errors(job.family):
        before = agent.play(job.family, task, episodes, gen).episode_return().mean().item()
        agent = agent.adapt(job.family, task, steps, episodes, gen)
        after = agent.play(job.family, task, episodes, gen).episode_return().mean().item()
    return agent, (
        f"adapted to {describe(job.family, task_values(task)[0])} in {steps} steps of {episodes} "
        f"episodes; mean return {before:.1f} -> {after:.1f}"
    )
