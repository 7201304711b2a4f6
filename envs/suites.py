"""Well-known benchmark suites as families, each with tasks held out from training.

Their packages are optional and checked when a family is made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from metarl.envs.core.errors import UsageError
from metarl.envs.core.optional_packages import need
from metarl.envs.core.parameters import Choice, Range
from metarl.envs.gym.family import GymnasiumFamily
from metarl.envs.gym.preprocessing.metaworld import GOALS, metaworld_spec, set_goal, task_names
from metarl.envs.gym.preprocessing.minigrid import level_seeds

LEVELS = 1000  # levels built per MiniGrid environment, before duplicates are removed


def lunar_lander() -> GymnasiumFamily:
    """LunarLander with hidden gravity, wind and turbulence."""
    return GymnasiumFamily(
        "LunarLander-v3",
        {
            "gravity": Range(-11.0, -5.0, "m/s^2", extrapolation=(-11.9, -2.0)),
            "wind_power": Range(0.0, 15.0, extrapolation=(0.0, 20.0)),
            "turbulence_power": Range(0.0, 1.5, extrapolation=(0.0, 2.0)),
        },
        name="lunar-lander",
        source="Gymnasium LunarLander-v3",
        about="Land on the pad in unknown gravity, wind and turbulence; reset takes one step, so "
        "the first observation reveals a little of the turbulence.",
    )


def atari_game(
    name: str,
    game: str,
    modes: tuple[int, ...],
    held_out: tuple[int, ...],
    difficulties: int,
    validation: tuple[int, ...] = (),
) -> GymnasiumFamily:
    """Modes and difficulties of one game, with modes held out for test and validation."""

    def numbers(values: tuple[int, ...]) -> tuple[float, ...]:
        return tuple(map(float, values))

    return GymnasiumFamily(
        f"ALE/{game}-v5",
        {
            "mode": Choice(
                numbers(modes), held_out=numbers(held_out), validation=numbers(validation)
            ),
            "difficulty": Choice(numbers(tuple(range(difficulties)))),
        },
        name=name,
        source="ALE; Machado et al. 2018 (arXiv:1709.06009)",
        about=f"{game} in an unknown mode and difficulty.",
    )


def minigrid(name: str, environment: str, about: str) -> GymnasiumFamily:
    """Distinct levels of one MiniGrid environment.

    The last fifth is held out for test, the tenth before it for validation.

    Raises:
        UsageError: MiniGrid isn't installed.
    """
    need(name, "minigrid", "minigrid")
    levels = tuple(map(float, level_seeds(environment, LEVELS)))
    test, validation = len(levels) // 5, len(levels) // 10
    return GymnasiumFamily(
        environment,
        {
            "level": Choice(
                levels, held_out=levels[-test:], validation=levels[-test - validation : -test]
            )
        },
        live=("level",),  # levels are distinct, even where random actions don't show it
        name=name,
        source="MiniGrid; Chevalier-Boisvert et al. 2023 (arXiv:2306.13831)",
        about=about,
    )


def metaworld_one(task: str) -> GymnasiumFamily:
    """ML1: 50 goals of one task each for training, test and validation.

    Raises:
        UsageError: Meta-World isn't installed, or has no such task.
    """
    name = f"metaworld-ml1-{task}"
    need(name, "metaworld", "metaworld")
    import metaworld

    if f"{task}-v3" not in metaworld.ALL_V3_ENVIRONMENTS:
        known = ", ".join(k.removesuffix("-v3") for k in metaworld.ALL_V3_ENVIRONMENTS)
        raise UsageError(f"unknown family '{name}': give metaworld-ml1- and one of {known}.")
    goals = tuple(float(g) for g in range(3 * GOALS))
    return GymnasiumFamily(
        metaworld_spec(name, f"{task}-v3"),
        {"goal": Choice(goals, held_out=goals[GOALS : 2 * GOALS], validation=goals[2 * GOALS :])},
        functions={"goal": set_goal},
        live=("goal",),  # in plate-slide-back it has an effect only if the plate is moved
        name=name,
        source="Meta-World ML1; Yu et al. 2019 (arXiv:1910.10897)",
        about=f"A robot arm's {task} with a hidden goal.",
    )


def metaworld_many(benchmark: str) -> GymnasiumFamily:
    """ML10, ML25 or ML45: 50 goals of each task; five tasks are held out for test.

    Validation uses other goals of the training tasks, since there are too few tasks to hold out
    more.
    """
    name = f"metaworld-{benchmark}"
    need(name, "metaworld", "metaworld")
    train, test = task_names(benchmark)
    tasks = tuple(float(i) for i in range(len(train) + len(test)))
    goals, others = range(GOALS), range(2 * GOALS, 3 * GOALS)
    return GymnasiumFamily(
        metaworld_spec(name, train[0]),
        {
            "task": Choice(tasks, held_out=tasks[len(train) :], labels=train + test),
            "goal": Choice(
                tuple(map(float, (*goals, *others))), validation=tuple(map(float, others))
            ),
        },
        functions={"goal": set_goal},
        live=("task", "goal"),  # checking them takes a minute
        name=name,
        source=f"Meta-World {benchmark.upper()}; Yu et al. 2019 (arXiv:1910.10897)",
        about=f"{len(train)} robot-arm tasks for training, {len(test)} others for test.",
    )


SUITES: dict[str, Callable[[], GymnasiumFamily]] = {
    "lunar-lander": lunar_lander,
    "atari-freeway": partial(
        atari_game, "atari-freeway", "Freeway", tuple(range(8)), (5, 6, 7), 2, (4,)
    ),
    "atari-breakout": partial(
        atari_game,
        "atari-breakout",
        "Breakout",
        tuple(range(0, 48, 4)),
        (32, 36, 40, 44),
        2,
        (24, 28),
    ),
    "atari-pong": partial(atari_game, "atari-pong", "Pong", (0, 1), (1,), 4),
    "atari-space-invaders": partial(
        atari_game,
        "atari-space-invaders",
        "SpaceInvaders",
        tuple(range(16)),
        (12, 13, 14, 15),
        2,
        (10, 11),
    ),
    "minigrid-go-to-door": partial(
        minigrid,
        "minigrid-go-to-door",
        "MiniGrid-GoToDoor-5x5-v0",
        "Stop at the right one of four doors; which one is hidden.",
    ),
    "minigrid-door-key": partial(
        minigrid,
        "minigrid-door-key",
        "MiniGrid-DoorKey-5x5-v0",
        "Fetch a key, open a door and reach the goal, in one level.",
    ),
    "minigrid-four-rooms": partial(
        minigrid,
        "minigrid-four-rooms",
        "MiniGrid-FourRooms-v0",
        "Find the goal of one level of four rooms.",
    ),
    "metaworld-ml1-reach": partial(metaworld_one, "reach"),
    "metaworld-ml1-push": partial(metaworld_one, "push"),
    "metaworld-ml1-pick-place": partial(metaworld_one, "pick-place"),
    "metaworld-ml10": partial(metaworld_many, "ml10"),
    "metaworld-ml25": partial(metaworld_many, "ml25"),
    "metaworld-ml45": partial(metaworld_many, "ml45"),
}
