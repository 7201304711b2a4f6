"""The environments of one worker process, which are reused between episodes."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from mmap import mmap
from typing import Any, NamedTuple

import numpy as np

from metarl.envs.core.errors import UsageError
from metarl.envs.gym.bound_env import BoundEnv, EnvConfig, Settings, close
from metarl.envs.gym.env_contract import Malformed
from metarl.envs.gym.parameter_setters import ParameterSetter
from metarl.envs.gym.shared_memory import release


class Agreed(NamedTuple):
    """Facts about a family that are determined once and sent to the workers."""

    setters: dict[str, ParameterSetter]
    form: tuple[str, str]  # of observations and actions, shared by all variants
    horizon: int  # maximum time limit of all variants, in steps


class Field(NamedTuple):
    """An array in shared memory."""

    shape: tuple[int, ...]
    dtype: str


def arrays(memory: mmap, fields: dict[str, Field]) -> dict[str, np.ndarray[Any, Any]]:
    """Consecutive views of the shared memory."""
    out, offset = {}, 0
    for name, (shape, dtype) in fields.items():
        out[name] = np.ndarray(shape, dtype, memory, offset)
        offset += size_of(Field(shape, dtype))
    return out


def size_of(one: Field) -> int:
    """Bytes of an array, rounded up to cache lines to avoid false sharing between workers."""
    return -(-int(np.prod(one.shape)) * np.dtype(one.dtype).itemsize // 64) * 64


class Failure(Exception):
    """An environment raised an exception; `slot` is -1 if it belongs to no slot."""

    def __init__(self, slot: int, what: str) -> None:
        super().__init__(what)
        self.slot = slot


def raised(what: str, error: BaseException) -> str:
    """A one-line description such as `step raised ValueError: ...`."""
    return f"{what} raised {type(error).__name__}: {' '.join(str(error).split())}"


class WorkerEnvs:
    """The environments of one worker; idle ones are kept, since making one may be slow."""

    def __init__(self, env_config: EnvConfig, worker: int) -> None:
        self.env_config, self.worker = env_config, worker
        self.playing: dict[int, BoundEnv] = {}
        self.idle: OrderedDict[Any, list[BoundEnv]] = OrderedDict()
        self.setters: dict[str, ParameterSetter] = {}
        self.agreed: Agreed
        self.memory: mmap | None = None
        self.shared: dict[str, np.ndarray[Any, Any]] = {}

    def attach(self, memory: mmap, fields: dict[str, Field]) -> None:
        """Switch to new shared memory."""
        self.shared = {}
        if self.memory:
            release(self.memory)
        self.memory = memory
        self.shared = arrays(memory, fields)

    def close(self) -> None:
        """Close all environments."""
        for env in self.playing.values():
            close(env.env)
        self.drop_idle()

    def reset(
        self,
        slots: Sequence[int],
        settings: list[Settings],
        seeds: list[int],
        agreed: Agreed,
        render: bool,
    ) -> None:
        """Start an episode in each slot, and release the environments of earlier episodes."""
        for env in self.playing.values():
            self.release(env)
        self.playing = {}
        self.agreed, self.setters = agreed, agreed.setters
        for slot, setting in zip(slots, settings, strict=True):
            self.show_progress(slot)
            try:
                self.playing[slot] = self.take(setting, 2 * len(slots), render)
            except UsageError:
                raise
            except BaseException as error:
                raise Failure(slot, raised("make", error)) from error
        self.restart(slots, settings, seeds)

    def restart(self, slots: Sequence[int], settings: list[Settings], seeds: list[int]) -> None:
        """Start another episode of the same variant in each slot."""
        for slot, setting, seed in zip(slots, settings, seeds, strict=True):
            self.show_progress(slot)
            env = self.playing[slot]
            try:
                obs = env.begin(setting, seed)
            except UsageError:
                raise
            except Malformed as error:
                raise Failure(slot, str(error)) from error
            except BaseException as error:
                raise Failure(slot, raised("reset", error)) from error
            check_form(env.encoding.form, self.agreed.form)
            check_limit(env, self.agreed)
            self.shared["obs"][slot] = obs
            self.shared["success"][slot] = 0

    def release(self, env: BoundEnv) -> None:
        """Keep an environment for later episodes."""
        self.idle.setdefault(env.key, []).append(env)
        self.idle.move_to_end(env.key)

    def drop_idle(self) -> None:
        """Close the idle environments."""
        for env in (e for same_key in self.idle.values() for e in same_key):
            close(env.env)
        self.idle.clear()

    def take(self, setting: Settings, most: int = 1, render: bool = False) -> BoundEnv:
        """An idle environment for these settings, or a new one.

        Args:
            most: maximum number of idle environments; the oldest are closed.
        """
        every = {**self.env_config.fixed, **setting}
        made_by = {k: every[k] for k, setter in self.setters.items() if setter.made}
        key = render, pickle.dumps(made_by)  # values may be lists
        if self.idle.get(key):
            return self.idle[key].pop()
        while sum(map(len, self.idle.values())) >= most:
            _, oldest = self.idle.popitem(last=False)
            for env in oldest:
                close(env.env)
        return BoundEnv(self.env_config, self.setters, setting, key)

    def step(self, slots: Sequence[int]) -> None:
        """Take one step in each slot with the shared actions, and write the results."""
        shared = self.shared
        for slot in slots:
            self.show_progress(slot)
            try:
                step = self.playing[slot].step(shared["act"][slot])
            except Malformed as error:
                raise Failure(slot, str(error)) from error
            except BaseException as error:
                raise Failure(slot, raised("step", error)) from error
            shared["obs"][slot] = step.obs
            shared["rew"][slot] = step.rew
            shared["terminated"][slot] = step.terminated
            shared["truncated"][slot] = step.truncated
            if step.success is not None:
                shared["success"][slot] = max(shared["success"][slot], step.success)

    def frame(self, slot: int) -> Any:
        """Image of the episode in a slot."""
        return self.playing[slot].env.render()

    def show_progress(self, slot: int) -> None:
        """Report progress and the current slot to the parent."""
        progress = self.shared["progress"][self.worker]
        progress[0] = slot
        progress[1] += 1


def check_form(form: tuple[str, str], agreed: tuple[str, str]) -> None:
    """Raise UsageError if the spaces of a variant differ from the others."""
    for kind, one, other in zip(("observations", "actions"), agreed, form, strict=True):
        if one != other:
            raise UsageError(
                f"some variants have {kind} of {one}, others of {other}: give variants with equal "
                "spaces, or pad them to the largest in a wrapper."
            )


def check_limit(env: BoundEnv, agreed: Agreed) -> None:
    """Raise UsageError if the time limit of a variant exceeds the agreed one."""
    if env.limit is None or env.limit > agreed.horizon:
        longest = "no time limit" if env.limit is None else f"episodes of {env.limit} steps"
        raise UsageError(
            f"a variant has {longest}, but the longest one checked has {agreed.horizon}: give one "
            f"limit for all with --set max_episode_steps={agreed.horizon}."
        )
