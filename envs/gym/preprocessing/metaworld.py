"""Meta-World: manipulation tasks with hidden goals, which are set in existing environments."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from metarl.envs.core.errors import UsageError

GOALS = 50  # per task and split (training, test, validation)
SEED = 0  # of the benchmark's goals; validation goals use SEED + 1
STEPS = 500


class Places(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Restores the positions of bodies and sites in a MuJoCo model shared between environments.

    Meta-World's environments change nothing else in the model. A separate model for each would take
    22 MiB and 90 ms to make.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        model: Any = env.unwrapped.model  # type: ignore[attr-defined]
        self._shared = (model.body_pos, model.site_pos)
        self._own = [positions.copy() for positions in self._shared]

    def _restore(self) -> None:
        for shared, own in zip(self._shared, self._own, strict=True):
            shared[:] = own

    def reset(self, **options: Any) -> Any:
        self._restore()
        out = self.env.reset(**options)
        self._own = [positions.copy() for positions in self._shared]
        return out

    def step(self, action: Any) -> Any:
        self._restore()
        return self.env.step(action)

    def render(self) -> Any:
        image: Any = self.env.render()
        return image[::-1, ::-1].copy()  # Meta-World's corner cameras are upside down


def metaworld_env(task: str, render_mode: Any = None) -> gymnasium.Env[Any, Any]:
    """A Meta-World environment with goal 0, to be changed by `set_goal`."""
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
    """A subclass of Meta-World's class whose environments share one MuJoCo model."""
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
    """Set a goal: 0 to 49 for training, 50 to 99 for test, of `metaworld.ML1(task, seed=0)`.

    The benchmark has no validation split; goals 100 to 149 are the training goals of
    `metaworld.ML1(task, seed=1)`. As in all ML benchmarks of Meta-World, the goal is hidden from
    the observation.
    """
    bare = env.unwrapped
    more, number = divmod(goal, 2 * GOALS)
    bare.set_task(_goals(bare.task_name, SEED + more)[number])


@lru_cache
def _goals(task: str, seed: int) -> list[Any]:
    import metaworld

    # ML10 and larger benchmarks draw the goals of all tasks from one stream, which takes minutes in
    # each process. Drawing them per task gives as many from the same distribution.
    benchmark = metaworld.ML1(task, seed=seed)
    return [*benchmark.train_tasks, *benchmark.test_tasks]


@lru_cache
def task_names(benchmark: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Training and test tasks, as listed by `metaworld.env_dict`.

    ML25 of Meta-World 3 lists basketball in both; it is removed from training here.
    """
    from metaworld import env_dict

    lists = getattr(env_dict, f"{benchmark.upper()}_V3")
    test = tuple(lists["test"])
    return tuple(name for name in lists["train"] if name not in test), test


def metaworld_spec(name: str, task: str) -> EnvSpec:
    """Spec of an environment with this (initial) task."""
    return EnvSpec(
        f"{name}-v0",
        entry_point="metarl.envs.gym.preprocessing.metaworld:metaworld_env",
        kwargs={"task": task},
        max_episode_steps=STEPS,
    )
