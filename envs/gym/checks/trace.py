"""Records of episodes with random actions, and comparison of two of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from metarl.envs.gym.bound_env import BoundEnv, Settings


class Event(NamedTuple):
    """One value returned by an environment."""

    episode: int
    step: int  # 0 is the reset
    what: str
    value: Any


Trace = list[Event]


def random_rollout(env: BoundEnv, setting: Settings, seed: int, steps: int) -> Iterator[Trace]:
    """Yield the events of a reset, then of each random step; ended episodes are restarted.

    Actions depend only on the seed, not on the variant.
    """
    episode, t = 1, 0
    env.encoding.action_space.seed(seed)
    yield [Event(episode, 0, "observation", np.array(env.begin(setting, seed)))]
    space = env.encoding.action_space  # the first reset may have replaced it
    space.seed(seed)
    for _ in range(steps):
        t += 1
        step = env.step(space.sample())
        obs = np.array(step.obs)
        events = [
            Event(episode, t, "observation", obs),
            Event(episode, t, "reward", step.rew),
            Event(episode, t, "terminated", step.terminated),
            Event(episode, t, "truncated", step.truncated),
            Event(episode, t, "success", step.success),
        ]
        finite = np.isfinite(step.rew) and np.isfinite(obs).all()
        if step.terminated or step.truncated or not finite:
            episode, t = episode + 1, 0
            first = np.array(env.begin(setting, seed + episode - 1))
            events.append(Event(episode, 0, "observation", first))
        yield events


def difference(one: Trace, other: Trace) -> str:
    """A description of the first difference of two traces; empty if they are equal."""
    for a, b in zip(one, other, strict=False):
        if a[:3] != b[:3] or not _equal(a.value, b.value):
            return _describe(a, b)
    return "" if len(one) == len(other) else "one has more steps than the other"


def _equal(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(a, b, equal_nan=True)


def _describe(a: Event, b: Event) -> str:
    what, one, other = a.what, a.value, b.value
    if a[:3] != b[:3]:
        return f"{_where(a)} in one run, {_where(b)} in the other"
    if isinstance(one, np.ndarray) and one.ndim and one.shape == other.shape:
        index = tuple(int(i) for i in np.argwhere(~np.isclose(one, other, 0, 0, equal_nan=True))[0])
        what += f"[{', '.join(map(str, index))}]"
        one, other = one[index], other[index]
    apart = ""
    if np.ndim(one) == np.ndim(other) == 0 and a.what in ("observation", "reward"):
        apart = f", {abs(float(one) - float(other)):.3g} apart"
    return f"{what} {_where(a)} is {_short(one)} and {_short(other)}{apart}"


def _where(event: Event) -> str:
    where = f"after step {event.step}" if event.step else "after reset"
    return where + (f" of episode {event.episode}" if event.episode > 1 else "")


def _short(x: Any) -> str:
    return f"{x:.6g}" if isinstance(x, float | np.floating) else str(x)
