"""Meta-World: manipulation tasks with hidden goals, each goal set in an environment that exists."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from metarl.envs.core.errors import UsageError

GOALS = 50  # of each task for training, and as many for test and for validation
SEED = 0  # of the benchmark's goals; those of validation have the next one
STEPS = 500


class Places(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Where this environment has its bodies and sites, in a model that it shares with others.

    They are all that Meta-World's environments change in a MuJoCo model. With a model of its own
    each would take 22 MiB and 90 ms to make.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        model: Any = env.unwrapped.model  # type: ignore[attr-defined]
        self._shared = (model.body_pos, model.site_pos)
        self._own = [places.copy() for places in self._shared]

    def _move_in(self) -> None:
        for shared, own in zip(self._shared, self._own, strict=True):
            shared[:] = own

    def reset(self, **options: Any) -> Any:
        self._move_in()
        out = self.env.reset(**options)
        self._own = [places.copy() for places in self._shared]
        return out

    def step(self, action: Any) -> Any:
        self._move_in()
        return self.env.step(action)

    def render(self) -> Any:
        picture: Any = self.env.render()
        return picture[::-1, ::-1].copy()  # the cameras in Meta-World's corners hang upside down


def metaworld_env(task: str, render_mode: Any = None) -> gymnasium.Env[Any, Any]:
    """An environment of Meta-World without a goal as yet."""
    import metaworld

    classes = metaworld.ALL_V3_ENVIRONMENTS
    if task not in classes:
        raise UsageError(f"Meta-World has no task '{task}': give one of {', '.join(classes)}.")
    env: Any = _sharing(task)(render_mode=render_mode, camera_name="corner2")
    env.task_name = task
    env = Places(env)
    set_goal(env, 0)
    return env  # type: ignore[no-any-return]


@lru_cache
def _sharing(task: str) -> type:
    """Meta-World's class of a task, but its environments share one MuJoCo model."""
    import metaworld
    import mujoco

    cls: Any = metaworld.ALL_V3_ENVIRONMENTS[task]
    models: list[Any] = []

    def start(self: Any) -> tuple[Any, Any]:
        if not models:
            models.append(cls._initialize_simulation(self)[0])
        return models[0], mujoco.MjData(models[0])

    return type(cls.__name__, (cls,), {"_initialize_simulation": start})


def set_goal(env: Any, goal: int) -> None:
    """Goal 0 ... 49 of training or 50 ... 99 of test, of `metaworld.ML1(task, seed=0)`.

    The benchmark has no validation split: goals 100 ... 149 are those of training in
    `metaworld.ML1(task, seed=1)`.
    The goal is hidden from the observation, as in all of Meta-World's ML benchmarks.
    """
    bare = env.unwrapped
    more, number = divmod(goal, 2 * GOALS)
    bare.set_task(_goals(bare.task_name, SEED + more)[number])


@lru_cache
def _goals(task: str, seed: int) -> list[Any]:
    import metaworld

    # ML10 and larger benchmarks draw the goals of all their tasks from one stream, which takes
    # minutes in each process; these are as many, from the same distribution, a task at a time.
    benchmark = metaworld.ML1(task, seed=seed)
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
        entry_point="metarl.envs.gym.preprocessing.metaworld:metaworld_env",
        kwargs={"task": task},
        max_episode_steps=STEPS,
    )
