"""The environments of one worker process: made once, set anew for each episode."""

from __future__ import annotations

import math
import pickle
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from mmap import mmap
from numbers import Real
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

from envs.encoding import Encoding, encode
from envs.errors import UsageError
from envs.knobs import Knob, Setter, find, keywords
from envs.shared_memory import release

Settings = dict[str, Any]  # name of a parameter -> what the environment gets


@dataclass(frozen=True)
class Recipe:
    """How to make one environment of a family."""

    spec: EnvSpec
    fixed: Settings = field(default_factory=dict)  # parameters that don't vary, set like the rest
    functions: dict[str, Setter] = field(default_factory=dict)


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


def close(env: gymnasium.Env[Any, Any]) -> None:
    """Close an environment that nobody uses any more."""
    # Many fail in it, such as on a window that never opened; no episode depends on that.
    with suppress(Exception):
        env.close()


@dataclass
class Made:
    """One environment, and what sets its parameters."""

    env: gymnasium.Env[Any, Any]
    key: Any  # settings that only `make` can set
    bound: dict[str, Callable[[Any], None]]
    fixed: Settings

    def apply(self, setting: Settings) -> None:
        """Set the parameters that aren't keywords of `make`."""
        every = {**self.fixed, **setting}
        for name, assign in self.bound.items():
            assign(every[name])

    def begin(self, setting: Settings, seed: int) -> Any:
        """Set the parameters and start an episode; the first observation."""
        # For environments that draw from the process's own streams: one seed, one episode.
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        self.apply(setting)
        return self.env.reset(seed=seed)[0]


class Stage:
    """The environments of one worker; those not in use are kept, as making one may take long."""

    def __init__(self, recipe: Recipe, worker: int) -> None:
        self.recipe, self.worker = recipe, worker
        self.playing: dict[int, Made] = {}
        self.idle: OrderedDict[Any, list[Made]] = OrderedDict()
        self.knobs: dict[str, Knob] = {}
        self.encoding: Encoding
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
        for made in (*self.playing.values(), *(m for group in self.idle.values() for m in group)):
            close(made.env)

    def reset(
        self, slots: Sequence[int], settings: list[Settings], seeds: list[int], render: bool
    ) -> None:
        """Start an episode in each slot; what played before is put by."""
        for made in self.playing.values():
            self.put_by(made)
        self.playing = {}
        if not self.knobs and settings:
            self.knobs, self.encoding, _ = find_knobs(self.recipe, settings[0])
        for slot, setting in zip(slots, settings, strict=True):
            self.show_progress(slot)
            try:
                self.playing[slot] = self.take(setting, 2 * len(slots), render)
            except UsageError:
                raise
            except BaseException as error:
                raise Failure(slot, raised("make", error)) from error
        self.again(slots, settings, seeds)

    def again(self, slots: Sequence[int], settings: list[Settings], seeds: list[int]) -> None:
        """Start another episode of the same variant in each slot."""
        for slot, setting, seed in zip(slots, settings, seeds, strict=True):
            self.show_progress(slot)
            try:
                obs = self.playing[slot].begin(setting, seed)
                self.shared["obs"][slot] = self.encoding.observe(obs)
            except UsageError:
                raise
            except BaseException as error:
                raise Failure(slot, raised("reset", error)) from error
            self.shared["success"][slot] = 0

    def put_by(self, made: Made) -> None:
        """Keep an environment for another episode."""
        self.idle.setdefault(made.key, []).append(made)
        self.idle.move_to_end(made.key)

    def take(self, setting: Settings, most: int = 1, render: bool = False) -> Made:
        """An environment made with these keywords, an idle one where there is one."""
        every = {**self.recipe.fixed, **setting}
        made_by = {k: every[k] for k, knob in self.knobs.items() if knob.kind == "keyword"}
        key = pickle.dumps((render, made_by))  # values may be lists
        if self.idle.get(key):
            return self.idle[key].pop()
        while sum(map(len, self.idle.values())) >= most:
            _, oldest = self.idle.popitem(last=False)
            for made in oldest:
                close(made.env)
        env = build(self.recipe, made_by, render)
        self._check_spaces(env)
        bound = {k: knob.bind(env) for k, knob in self.knobs.items() if knob.bind}
        return Made(env, key, bound, self.recipe.fixed)

    def _check_spaces(self, env: gymnasium.Env[Any, Any]) -> None:
        """Raise UsageError if this variant looks or acts unlike the first one."""
        mine = encode(env.observation_space, env.action_space)
        for kind, one, other in (
            ("observations", self.encoding.observation_space, mine.observation_space),
            ("actions", self.encoding.action_space, mine.action_space),
        ):
            if one.shape != other.shape or getattr(one, "n", 0) != getattr(other, "n", 0):
                raise UsageError(
                    f"some variants have {kind} of {one}, others of {other}: give variants that "
                    "are alike in this."
                )

    def step(self, slots: Sequence[int]) -> None:
        """One step in each slot, from shared actions to shared observations."""
        shared, encoding = self.shared, self.encoding
        for slot in slots:
            self.show_progress(slot)
            try:
                env = self.playing[slot].env
                obs, rew, terminated, truncated, info = env.step(encoding.act(shared["act"][slot]))
                shared["obs"][slot] = encoding.observe(obs)
            except BaseException as error:
                raise Failure(slot, raised("step", error)) from error
            shared["rew"][slot] = rew
            shared["terminated"][slot] = terminated
            shared["truncated"][slot] = truncated
            if "success" in info:
                shared["success"][slot] = max(shared["success"][slot], float(info["success"]))

    def frame(self, slot: int) -> Any:
        """Picture of the episode in a slot."""
        return self.playing[slot].env.render()

    def show_progress(self, slot: int) -> None:
        """Tell the parent that something moves, and where."""
        shown = self.shared["progress"][self.worker]
        shown[0] = slot
        shown[1] += 1


def build(recipe: Recipe, made_by: Settings, render: bool = False) -> gymnasium.Env[Any, Any]:
    """`gymnasium.make`, with what varies or is fixed by keyword."""
    more: Settings = {"render_mode": "rgb_array"} if render else {}
    return gymnasium.make(recipe.spec, disable_env_checker=True, **made_by, **more)


def find_knobs(recipe: Recipe, setting: Settings) -> tuple[dict[str, Knob], Encoding, int | None]:
    """How each parameter is set, the spaces, and the time limit in steps."""
    every = {**recipe.fixed, **setting}
    known = keywords(recipe.spec)[0] | {"max_episode_steps"}
    made_by = {k: v for k, v in every.items() if k in known and k not in recipe.functions}
    check_limit(made_by.get("max_episode_steps"))
    env = build(recipe, made_by)
    try:
        knobs = {
            k: Knob("keyword", k) if k in made_by else find(env, k, recipe.functions.get(k))
            for k in every
        }
        return knobs, encode(env.observation_space, env.action_space), time_limit(env)
    finally:
        close(env)


def check_limit(steps: Any) -> None:
    """Raise UsageError unless gymnasium takes this as `max_episode_steps`; -1 is no limit."""
    whole = isinstance(steps, int) and not isinstance(steps, bool)
    if steps is not None and not (whole and (steps >= 1 or steps == -1)):
        raise UsageError(
            f"max_episode_steps={steps}: give the steps after which an episode ends, a whole "
            "number of 1 or more."
        )


def time_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """Steps after which an episode is over at the latest; None where there is no saying.

    An environment's own `max_steps`, as in MiniGrid, counts where it is a number before the first
    reset: BabyAI's is another for each level, and is 0 until then.
    """
    limit: Any = env.spec.max_episode_steps if env.spec else None
    if limit is None or limit < 0:  # gymnasium's -1: no limit
        limit = getattr(env.unwrapped, "max_steps", None)
    real = isinstance(limit, Real) and not isinstance(limit, bool) and math.isfinite(limit)
    return int(limit) if real and limit >= 1 else None
