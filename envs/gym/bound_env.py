"""One environment of a family: how it is made, set and read."""

from __future__ import annotations

import copy
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium import Space
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Tuple
from gymnasium.wrappers import TimeLimit

from metarl.envs.core.errors import UsageError
from metarl.envs.gym.derived_attributes import Forced, forced
from metarl.envs.gym.env_contract import STEP_GIVES, Malformed, read_reset, read_step, success_of
from metarl.envs.gym.parameter_setters import ParameterSetter, SetValue, find, keywords
from metarl.envs.gym.spaces import Image, encode

Settings = dict[str, Any]  # name of a parameter -> what the environment gets


@dataclass(frozen=True)
class EnvConfig:
    """How to make one environment of a family."""

    spec: EnvSpec
    fixed: Settings = field(default_factory=dict)  # parameters that don't vary, set like the rest
    functions: dict[str, SetValue] = field(default_factory=dict)
    image: Image = "auto"


class Step(NamedTuple):
    """What a step gave, as plain numbers."""

    obs: Any
    rew: float
    terminated: bool
    truncated: bool
    success: float | None


class BoundEnv:
    """One environment, what sets its parameters, and how its own spaces are read.

    Attributes:
        encoding: of its spaces as they are in this episode, which a parameter may change.
        limit: steps in its longest episode, None if it has no limit.
        has_mask: whether it says which actions are legal.
    """

    def __init__(
        self,
        env_config: EnvConfig,
        setters: dict[str, ParameterSetter],
        setting: Settings,
        key: Any,
    ) -> None:
        self.fixed, self.image, self.key = env_config.fixed, env_config.image, key
        every = {**env_config.fixed, **setting}
        self.made = {k: every[k] for k, setter in setters.items() if setter.made}
        self.env = build(env_config, setters, self.made, render=key[0])
        self._relied_on = {
            setter.plain: getattr(self.env.unwrapped, setter.plain)
            for setter in setters.values()
            if setter.kind == "attribute"
        }
        self._bound = {
            k: setter.bind(self.env, env_config.functions.get(k))
            for k, setter in setters.items()
            if not setter.made
        }
        self.has_mask = _has_mask(self.env)
        self._spaces: Any = None
        self._read_spaces()

    def begin(self, setting: Settings, seed: int) -> Any:
        """Set the parameters and start an episode; the first observation.

        Raises:
            Malformed: reset gave something else, or undid a parameter.
        """
        # For environments that draw from the process's own streams: one seed, one episode.
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        self.apply(setting)
        obs, info = read_reset(self.env.reset(seed=seed))
        for name, wanted in self._relied_on.items():
            if (now := getattr(self.env.unwrapped, name)) != wanted:
                raise Malformed(
                    f"'{name}' is {now!r} after reset, where {wanted!r} was set: the environment "
                    "sets it itself: vary what it is set from"
                )
        self._read_spaces()
        self._note(info)
        self._steps = 0
        return self.encoding.observe(obs)

    def step(self, act: Any) -> Step:
        """One step; an episode is truncated where the limit of this variant is.

        Raises:
            Malformed: step gave something else.
        """
        try:
            result = self.env.step(self.encoding.act(act))
        except (TypeError, ValueError) as error:
            if "unpack" in str(error):  # of a wrapper of Gymnasium's, which is first to see it
                raise Malformed(f"{STEP_GIVES}, if that is what failed: {error}") from error
            raise
        obs, rew, terminated, truncated, info = read_step(result)
        self._steps += 1
        truncated = truncated or (self.limit is not None and self._steps >= self.limit)
        self._note(info)
        return Step(self.encoding.observe(obs), rew, terminated, truncated, success_of(info))

    def apply(self, setting: Settings) -> None:
        """Set the parameters that no environment has to be made for."""
        every = {**self.fixed, **setting}
        for name, assign in self._bound.items():
            assign(every[name])

    def _read_spaces(self) -> None:
        """Spaces and time limit, which are of this variant alone."""
        spaces = Tuple((self.env.observation_space, self.env.action_space))
        if self._spaces is None or not _same(spaces, self._spaces):
            self.encoding = encode(spaces[0], spaces[1], self.image)
            self._spaces = copy.deepcopy(spaces)
        self.limit = step_limit(self.env)

    def _note(self, info: dict[str, Any]) -> None:
        self.has_mask = self.has_mask or "action_mask" in info


def step_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """Steps in the longest episode: the least limit of `make` and wrappers, else `max_steps`."""
    limits: list[Any] = []
    own: list[Any] = []
    layer: Any = env
    while True:
        if isinstance(layer, TimeLimit):
            limits.append(layer._max_episode_steps)
        own.append(getattr(layer, "max_steps", None))  # MiniGrid has one of its own
        if not isinstance(layer, gymnasium.Wrapper):
            break
        layer = layer.env
    of_spec: list[Any] = [layer.spec.max_episode_steps if layer.spec else None]
    for known in (limits, own, of_spec):
        if whole := [int(x) for x in known if _is_whole(x)]:
            return min(whole)
    return None


def _is_whole(x: Any) -> bool:
    is_number = isinstance(x, int | float | np.number) and not isinstance(x, bool)
    return is_number and bool(0 < x < 2**31 and x == int(x))


def _has_mask(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether a layer has sb3-contrib's `action_masks()`, or RLlib's part of the observation."""
    layer: Any = env
    while True:
        if callable(getattr(layer, "action_masks", None)):
            return True
        if not isinstance(layer, gymnasium.Wrapper):
            break
        layer = layer.env
    seen = env.observation_space
    return isinstance(seen, Dict) and "action_mask" in seen.spaces


def build(
    env_config: EnvConfig, setters: dict[str, ParameterSetter], made: Settings, render: bool = False
) -> gymnasium.Env[Any, Any]:
    """`gymnasium.make`, with what varies or is fixed by keyword or attribute."""
    more: Settings = {"render_mode": "rgb_array"} if render else {}
    keywords = {k: v for k, v in made.items() if setters[k].kind == "keyword"}
    attributes = [
        Forced(setters[k].plain, v, setters[k].relative, setters[k].owner)
        for k, v in made.items()
        if setters[k].kind == "attribute"
    ]
    with forced(attributes):
        env = gymnasium.make(env_config.spec, disable_env_checker=True, **keywords, **more)
        for attribute in attributes:
            attribute.conclude(env.unwrapped)
    return env


def close(env: gymnasium.Env[Any, Any]) -> None:
    """Close an environment that nobody uses any more."""
    # Many fail in it, such as on a window that never opened; no episode depends on that.
    with suppress(Exception):
        env.close()


def check_limit(steps: Any) -> None:
    """Raise UsageError unless gymnasium takes this as `max_episode_steps`; -1 is no limit."""
    whole = isinstance(steps, int) and not isinstance(steps, bool)
    if steps is not None and not (whole and (steps >= 1 or steps == -1)):
        raise UsageError(
            f"max_episode_steps={steps}: give the steps after which an episode ends, a whole "
            "number of 1 or more."
        )


def find_setters(env_config: EnvConfig, setting: Settings) -> dict[str, ParameterSetter]:
    """How each parameter is set.

    Raises:
        UsageError: one that can't be, or not safely.
    """
    every = {**env_config.fixed, **setting}
    known = keywords(env_config.spec)[0] | {"max_episode_steps"}
    by_keyword = {
        k: ParameterSetter("keyword", k)
        for k in every
        if k in known and k not in env_config.functions
    }
    check_limit(every.get("max_episode_steps"))
    env = build(env_config, by_keyword, {k: every[k] for k in by_keyword})
    try:
        return {k: by_keyword.get(k) or find(env, k, env_config.functions.get(k)) for k in every}
    finally:
        close(env)


def _same(one: Space[Any], other: Space[Any]) -> bool:
    """Whether two spaces are equal to the last digit; Gymnasium's own comparison is approximate."""
    if isinstance(one, Box) and isinstance(other, Box):
        ends = (one.low, other.low), (one.high, other.high)
        return one.dtype == other.dtype and all(np.array_equal(a, b) for a, b in ends)
    if isinstance(one, Dict) and isinstance(other, Dict):
        return list(one) == list(other) and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, Tuple) and isinstance(other, Tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other
