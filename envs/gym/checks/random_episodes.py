"""Runs episodes of one variant with random actions and collects facts about the environment."""

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
    """A variant, the seed of its first episode, and the recorded events."""

    setting: Settings
    seed: int
    trace: Trace


class Facts(NamedTuple):
    """Facts about an environment."""

    trace: Trace
    observation_space: Box
    action_space: Any
    form: tuple[str, str]
    about: tuple[str, str]
    limit: int | None
    has_mask: bool
    seeded: bool  # whether the seed passed to reset reached gymnasium.Env.reset


def run_alone(worker_envs: WorkerEnvs, setting: Settings, seed: int, steps: int) -> Facts:
    """Run random actions in a fresh process, in a new environment."""

    def run() -> Facts:
        env = take(worker_envs, setting)
        try:
            trace: Trace = []
            with telling(env, setting):
                for events in random_rollout(env, setting, seed, steps):
                    worker_envs.show_progress(-1)
                    trace += events
            return facts_of(env, trace, seed)
        finally:
            close(env.env)

    return alone(run)


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
def telling(env: BoundEnv, setting: Settings) -> Iterator[None]:
    """Add the variant to errors of an environment."""
    try:
        yield
    except UsageError:
        raise
    except Malformed as error:
        raise UsageError(f"{error} (with {show(setting)}).") from error
    except Exception as error:
        hint = ""
        if env.has_mask:
            hint = (
                " (its mask of legal actions is ignored: wrap it so that illegal actions do "
                "something harmless)"
            )
        what = raised(f"running with {show(setting)}", error)
        raise Failure(-1, what + hint) from error


def facts_of(env: BoundEnv, trace: Trace, seed: int) -> Facts:
    """Facts from a trace whose first episode had this seed."""
    episode = trace[-1].episode if trace else 1
    code = env.encoding
    return Facts(
        trace,
        code.observation_space,
        code.action_space,
        code.form,
        code.about,
        env.limit,
        env.has_mask,
        getattr(env.env.unwrapped, "_np_random_seed", None) == seed + episode - 1,
    )


def show(setting: Settings) -> str:
    """A readable description of a variant."""
    return ", ".join(f"{k}={v}" for k, v in setting.items())
