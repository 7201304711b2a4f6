"""Does a parameter change anything? Found out by playing, in a worker, before training starts."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.errors import UsageError
from envs.stage import Failure, Made, Settings, Stage, find_knobs, raised

STEPS = 200  # of random play in which a parameter has to show itself
SEEDS = (0, 1, 2)
FEW = 16  # values of a set; of more, only those that are needed to see a difference are tried


def explore(
    stage: Stage, usual: Settings, trials: dict[str, list[Settings]], exact: bool = True
) -> dict[str, Any]:
    """Spaces, time limit and whether success is told, once every parameter proved to be live.

    Args:
        usual: a variant to start from.
        trials: for each parameter, variants that differ in it alone.
        exact: refuse an environment that doesn't repeat itself.
    Raises:
        UsageError: a parameter that isn't found or changes nothing; an environment that plays
            differently for the same seed, or can't be made in a variant.
    """
    stage.knobs, stage.encoding, limit = find_knobs(stage.recipe, usual)
    first, success = _play(stage, usual, SEEDS[0])
    again, _ = _play(stage, usual, SEEDS[0])
    if exact and not _same(first, again):
        raise UsageError(
            "the same seed and actions don't give the same episode twice: draw all randomness from "
            "self.np_random, and set everything anew in reset; or give up exact resume with "
            "--no-exact-replay (exact_replay=False in Python)."
        )
    for name, settings in trials.items():
        if not any(_live(stage, settings, seed) for seed in SEEDS):
            kind = stage.knobs[name].kind
            raise UsageError(
                f"'{name}' ({kind}) changes nothing in {STEPS} steps of random play, be it "
                f"{settings[0][name]} or {settings[-1][name]}: give another parameter, or with "
                "--set what makes it count."
            )
        for setting in settings if len(settings) <= FEW else ():
            _play(stage, setting, SEEDS[0], steps=1)  # each can be made
    return {
        "observation_space": stage.encoding.observation_space,
        "action_space": stage.encoding.action_space,
        "limit": limit,
        "success": success,
        "kinds": {name: knob.kind for name, knob in stage.knobs.items()},
    }


def draws(stage: Stage, usual: Settings) -> bool:
    """Whether an environment gives a picture, (H, W, 3) uint8."""
    if not stage.knobs:
        stage.knobs, stage.encoding, _ = find_knobs(stage.recipe, usual)
    made = stage.take(usual, render=True)
    try:
        made.begin(usual, SEEDS[0])
        picture = np.asarray(made.env.render())
        return picture.ndim == 3 and picture.shape[-1] == 3 and picture.dtype == np.uint8
    finally:
        stage.put_by(made)


def _live(stage: Stage, settings: list[Settings], seed: int) -> bool:
    """Whether two of the variants differ in anything that an agent sees or gets."""
    first, _ = _play(stage, settings[0], seed)
    return any(not _same(first, _play(stage, other, seed)[0]) for other in settings[1:])


def _play(stage: Stage, setting: Settings, seed: int, steps: int = STEPS) -> tuple[list[Any], bool]:
    """All that an agent sees and gets in random play, and whether success is told."""
    try:
        made = stage.take(setting, most=len(SEEDS))
        try:
            return _trace(stage, made, setting, seed, steps)
        finally:
            stage.put_by(made)
    except UsageError:
        raise
    except Exception as error:
        raise Failure(-1, raised(f"playing with {_show(setting)}", error)) from error


def _trace(
    stage: Stage, made: Made, setting: Settings, seed: int, steps: int
) -> tuple[list[Any], bool]:
    space, encoding = stage.encoding.action_space, stage.encoding
    space.seed(seed)
    trace: list[Any] = [np.array(encoding.observe(made.begin(setting, seed)))]
    success = False
    for _ in range(steps):
        stage.show_progress(-1)
        obs, rew, terminated, truncated, info = made.env.step(encoding.act(space.sample()))
        trace += [np.array(encoding.observe(obs)), rew, terminated]
        success = success or "success" in info
        if terminated or truncated:  # what is rare in one episode may show in the next
            seed += 1
            trace.append(np.array(encoding.observe(made.begin(setting, seed))))
    return trace, success


def _same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True)
    )


def _show(setting: Settings) -> str:
    return ", ".join(f"{k}={v}" for k, v in setting.items())
