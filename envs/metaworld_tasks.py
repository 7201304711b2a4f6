"""Meta-World: manipulation tasks with hidden goals, each goal set in an environment that exists."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from envs.errors import UsageError

GOALS = 50  # of each task for training, and as many for test
SEED = 0  # of the benchmark's goals
STEPS = 500


class Upright(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Turns the pictures: the cameras in Meta-World's corners hang upside down."""

    def render(self) -> Any:
        picture: Any = self.env.render()
        return picture[::-1, ::-1].copy()


def metaworld_env(task: str, render_mode: Any = None) -> gymnasium.Env[Any, Any]:
    """An environment of Meta-World without a goal as yet."""
    import metaworld

    classes = metaworld.ALL_V3_ENVIRONMENTS
    if task not in classes:
        raise UsageError(f"Meta-World has no task '{task}': give one of {', '.join(classes)}.")
    env: Any = classes[task](render_mode=render_mode, camera_name="corner2")
    env.task_name = task
    set_goal(env, 0)
    return env if render_mode is None else Upright(env)


def set_goal(env: Any, goal: int) -> None:
    """Goal 0 ... 49 of training or 50 ... 99 of test, of `metaworld.ML1(task, seed=0)`.

    The goal is hidden from the observation, as in all of Meta-World's ML benchmarks.
    """
    bare = env.unwrapped
    bare.set_task(_goals(bare.task_name)[goal])


@lru_cache
def _goals(task: str) -> list[Any]:
    import metaworld

    # ML10 and larger benchmarks draw the goals of all their tasks from one stream, which takes
    # minutes in each process; these are as many, from the same distribution, a task at a time.
    benchmark = metaworld.ML1(task, seed=SEED)
    return [*benchmark.train_tasks, *benchmark.test_tasks]


@lru_cache
def task_names(benchmark: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tasks of training and of test, as `metaworld.env_dict` lists them.

    ML25 of Meta-World 3 lists basketball in both; here training goes without it.
    """
    from metaworld import env_dict

    lists = getattr(env_dict, f"{benchmark.upper()}_V3")
    test = tuple(lists["test"])
    return tuple(name for name in lists["train"] if name not in test), test


def metaworld_spec(name: str, task: str) -> EnvSpec:
    """One task, or a first one of several."""
    return EnvSpec(
        f"{name}-v0",
        entry_point="envs.metaworld_tasks:metaworld_env",
        kwargs={"task": task},
        max_episode_steps=STEPS,
    )
