"""A play of one variant, and what it tells of the environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from gymnasium.spaces import Box

from metarl.envs.core.errors import UsageError
from metarl.envs.gym.bound_env import BoundEnv, Settings, close
from metarl.envs.gym.checks.fresh_env import alone
from metarl.envs.gym.checks.trace import Trace, random_rollout
from metarl.envs.gym.env_contract import Malformed
from metarl.envs.gym.worker_envs import Failure, WorkerEnvs, raised


class Episode(NamedTuple):
    """A variant, the seed of its first episode, and what it gave."""

    setting: Settings
    seed: int
    trace: Trace


class Facts(NamedTuple):
    """What a play told of an environment."""

    trace: Trace
    observation_space: Box
    action_space: Any
    form: tuple[str, str]
    about: tuple[str, str]
    limit: int | None
    has_mask: bool
    seeded: bool  # whether the seed given to reset reached gymnasium.Env.reset


def run_alone(worker_envs: WorkerEnvs, setting: Settings, seed: int, steps: int) -> Facts:
    """A play in a process of its own, whose environment is the first that was made there."""

    def play() -> Facts:
        made = take(worker_envs, setting)
        try:
            trace: Trace = []
            with telling(made, setting):
                for events in random_rollout(made, setting, seed, steps):
                    worker_envs.show_progress(-1)
                    trace += events
            return facts_of(made, trace, seed)
        finally:
            close(made.env)

    return alone(play)


def take(worker_envs: WorkerEnvs, setting: Settings, most: int = 1) -> BoundEnv:
    """An environment for these settings.

    Raises:
        Failure: it can't be made.
    """
    try:
        return worker_envs.take(setting, most)
    except UsageError:
        raise
    except Exception as error:
        raise Failure(-1, raised(f"making it with {show(setting)}", error)) from error


@contextmanager
def telling(made: BoundEnv, setting: Settings) -> Iterator[None]:
    """Say what an environment did wrong, and in which variant."""
    try:
        yield
    except UsageError:
        raise
    except Malformed as error:
        raise UsageError(f"{error} (with {show(setting)}).") from error
    except Exception as error:
        hint = ""
        if made.has_mask:
            hint = (
                " (it says which actions are legal, which is ignored: wrap it so that others do "
                "something harmless)"
            )
        what = raised(f"playing with {show(setting)}", error)
        raise Failure(-1, what + hint) from error


def facts_of(made: BoundEnv, trace: Trace, seed: int) -> Facts:
    """What an environment told in a play whose first episode had this seed."""
    episode = trace[-1].episode if trace else 1
    code = made.encoding
    return Facts(
        trace,
        code.observation_space,
        code.action_space,
        code.form,
        code.about,
        made.limit,
        made.has_mask,
        getattr(made.env.unwrapped, "_np_random_seed", None) == seed + episode - 1,
    )


def show(setting: Settings) -> str:
    """A variant as a person reads it."""
    return ", ".join(f"{k}={v}" for k, v in setting.items())
