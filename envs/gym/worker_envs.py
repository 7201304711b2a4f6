"""The environments of one worker process: made once, set anew for each episode."""

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
    """What was found out of a family once, for the workers to go by."""

    setters: dict[str, ParameterSetter]
    form: tuple[str, str]  # of observations and actions, which all variants share
    horizon: int  # steps in the longest episode of any variant


class Field(NamedTuple):
    """An array in the memory that parent and workers share."""

    shape: tuple[int, ...]
    dtype: str


def arrays(memory: mmap, fields: dict[str, Field]) -> dict[str, np.ndarray[Any, Any]]:
    """Views of the shared memory, one after the other."""
    out, offset = {}, 0
    for name, (shape, dtype) in fields.items():
        out[name] = np.ndarray(shape, dtype, memory, offset)
        offset += size_of(Field(shape, dtype))
    return out


def size_of(one: Field) -> int:
    """Bytes of an array, up to a cache line, so that two workers don't write to the same."""
    return -(-int(np.prod(one.shape)) * np.dtype(one.dtype).itemsize // 64) * 64


class Failure(Exception):
    """An environment raised in this slot, -1 in none."""

    def __init__(self, slot: int, what: str) -> None:
        super().__init__(what)
        self.slot = slot


def raised(what: str, error: BaseException) -> str:
    """`step raised ValueError: ...`, on one line."""
    return f"{what} raised {type(error).__name__}: {' '.join(str(error).split())}"


class WorkerEnvs:
    """The environments of one worker; those not in use are kept, as making one may take long."""

    def __init__(self, env_config: EnvConfig, worker: int) -> None:
        self.env_config, self.worker = env_config, worker
        self.playing: dict[int, BoundEnv] = {}
        self.idle: OrderedDict[Any, list[BoundEnv]] = OrderedDict()
        self.setters: dict[str, ParameterSetter] = {}
        self.agreed: Agreed
        self.memory: mmap | None = None
        self.shared: dict[str, np.ndarray[Any, Any]] = {}

    def attach(self, memory: mmap, fields: dict[str, Field]) -> None:
        """Use this shared memory from now on."""
        self.shared = {}
        if self.memory:
            release(self.memory)
        self.memory = memory
        self.shared = arrays(memory, fields)

    def close(self) -> None:
        """Close all environments, with whatever they have started."""
        for made in self.playing.values():
            close(made.env)
        self.drop_idle()

    def reset(
        self,
        slots: Sequence[int],
        settings: list[Settings],
        seeds: list[int],
        agreed: Agreed,
        render: bool,
    ) -> None:
        """Start an episode in each slot; what played before is put by."""
        for made in self.playing.values():
            self.release(made)
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
            made = self.playing[slot]
            try:
                obs = made.begin(setting, seed)
            except UsageError:
                raise
            except Malformed as error:
                raise Failure(slot, str(error)) from error
            except BaseException as error:
                raise Failure(slot, raised("reset", error)) from error
            check_form(made.encoding.form, self.agreed.form)
            check_limit(made, self.agreed)
            self.shared["obs"][slot] = obs
            self.shared["success"][slot] = 0

    def release(self, made: BoundEnv) -> None:
        """Keep an environment for another episode."""
        self.idle.setdefault(made.key, []).append(made)
        self.idle.move_to_end(made.key)

    def drop_idle(self) -> None:
        """Close the environments that are kept."""
        for made in (m for all_of_them in self.idle.values() for m in all_of_them):
            close(made.env)
        self.idle.clear()

    def take(self, setting: Settings, most: int = 1, render: bool = False) -> BoundEnv:
        """An environment made for these settings, an idle one where there is one."""
        every = {**self.env_config.fixed, **setting}
        made_by = {k: every[k] for k, setter in self.setters.items() if setter.made}
        key = render, pickle.dumps(made_by)  # values may be lists
        if self.idle.get(key):
            return self.idle[key].pop()
        while sum(map(len, self.idle.values())) >= most:
            _, oldest = self.idle.popitem(last=False)
            for made in oldest:
                close(made.env)
        return BoundEnv(self.env_config, self.setters, setting, key)

    def step(self, slots: Sequence[int]) -> None:
        """One step in each slot, from shared actions to shared observations."""
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
        """Picture of the episode in a slot."""
        return self.playing[slot].env.render()

    def show_progress(self, slot: int) -> None:
        """Tell the parent that something moves, and where."""
        shown = self.shared["progress"][self.worker]
        shown[0] = slot
        shown[1] += 1


def check_form(form: tuple[str, str], agreed: tuple[str, str]) -> None:
    """Raise UsageError if a variant looks or acts unlike the others."""
    for kind, one, other in zip(("observations", "actions"), agreed, form, strict=True):
        if one != other:
            raise UsageError(
                f"some variants have {kind} of {one}, others of {other}: give variants that are "
                "alike in this, or pad them to the largest in a wrapper."
            )


def check_limit(made: BoundEnv, agreed: Agreed) -> None:
    """Raise UsageError if a variant's episodes are longer than was found for all."""
    if made.limit is None or made.limit > agreed.horizon:
        longest = "no time limit" if made.limit is None else f"episodes of {made.limit} steps"
        raise UsageError(
            f"a variant has {longest}, where the longest that was found has {agreed.horizon}: give "
            f"one limit for all with --set max_episode_steps={agreed.horizon}."
        )
