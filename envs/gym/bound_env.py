"""One environment of a family: making it, setting its parameters, reading its spaces."""

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

Settings = dict[str, Any]  # name of a parameter -> value passed to the environment


@dataclass(frozen=True)
class EnvConfig:
    """How to make one environment of a family."""

    spec: EnvSpec
    fixed: Settings = field(default_factory=dict)  # constant parameters, set like the others
    functions: dict[str, SetValue] = field(default_factory=dict)
    image: Image = "auto"


class Step(NamedTuple):
    """Result of a step, with Python scalars."""

    obs: Any
    rew: float
    terminated: bool
    truncated: bool
    success: float | None


class BoundEnv:
    """One environment with the setters of its parameters and the encoding of its spaces.

    Attributes:
        encoding: of the spaces in the current episode, which parameters may change.
        limit: maximum number of steps per episode, None if there is no limit.
        has_mask: whether it provides a mask of legal actions.
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
        self._expected = {
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
        """Set the parameters, start an episode and return the first observation.

        Raises:
            Malformed: the result of reset is invalid, or reset changed a parameter.
        """
        # Makes episodes reproducible in environments that use global random generators.
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        self.apply(setting)
        obs, info = read_reset(self.env.reset(seed=seed))
        for name, expected in self._expected.items():
            if (value := getattr(self.env.unwrapped, name)) != expected:
                raise Malformed(
                    f"'{name}' is {value!r} after reset, but {expected!r} was set: the "
                    "environment sets it itself: vary what it is set from"
                )
        self._read_spaces()
        self._note(info)
        self._steps = 0
        return self.encoding.observe(obs)

    def step(self, act: Any) -> Step:
        """Take one step; the episode is truncated at the time limit of this variant.

        Raises:
            Malformed: the result of step is invalid.
        """
        try:
            result = self.env.step(self.encoding.act(act))
        except (TypeError, ValueError) as error:
            if "unpack" in str(error):  # probably raised by a Gymnasium wrapper
                raise Malformed(f"{STEP_GIVES}, if that is what failed: {error}") from error
            raise
        obs, rew, terminated, truncated, info = read_step(result)
        self._steps += 1
        truncated = truncated or (self.limit is not None and self._steps >= self.limit)
        self._note(info)
        return Step(self.encoding.observe(obs), rew, terminated, truncated, success_of(info))

    def apply(self, setting: Settings) -> None:
        """Set the parameters that can change without making a new environment."""
        every = {**self.fixed, **setting}
        for name, assign in self._bound.items():
            assign(every[name])

    def _read_spaces(self) -> None:
        """Update the spaces and the time limit, which may depend on the variant."""
        spaces = Tuple((self.env.observation_space, self.env.action_space))
        if self._spaces is None or not _same(spaces, self._spaces):
            self.encoding = encode(spaces[0], spaces[1], self.image)
            self._spaces = copy.deepcopy(spaces)
        self.limit = step_limit(self.env)

    def _note(self, info: dict[str, Any]) -> None:
        self.has_mask = self.has_mask or "action_mask" in info


def step_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """Time limit in steps: the smallest of TimeLimit wrappers, else `max_steps`, else the spec."""
    limits: list[Any] = []
    own: list[Any] = []
    layer: Any = env
    while True:
        if isinstance(layer, TimeLimit):
            limits.append(layer._max_episode_steps)
        own.append(getattr(layer, "max_steps", None))  # used by MiniGrid
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
    """Whether a layer has `action_masks()`, or the observation `action_mask`.

    These are the conventions of sb3-contrib and RLlib.
    """
    layer: Any = env
    while True:
        if callable(getattr(layer, "action_masks", None)):
            return True
        if not isinstance(layer, gymnasium.Wrapper):
            break
        layer = layer.env
    space = env.observation_space
    return isinstance(space, Dict) and "action_mask" in space.spaces


def build(
    env_config: EnvConfig, setters: dict[str, ParameterSetter], made: Settings, render: bool = False
) -> gymnasium.Env[Any, Any]:
    """Call `gymnasium.make` with the parameters that are keywords or attributes."""
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
    """Close an environment and ignore errors."""
    # Many environments fail to close, for example a window that never opened. It has no effect.
    with suppress(Exception):
        env.close()


def check_limit(steps: Any) -> None:
    """Raise UsageError unless `gymnasium.make` accepts this `max_episode_steps`; -1 is no limit."""
    whole = isinstance(steps, int) and not isinstance(steps, bool)
    if steps is not None and not (whole and (steps >= 1 or steps == -1)):
        raise UsageError(
            f"max_episode_steps={steps}: give the maximum number of steps per episode, an integer "
            "of at least 1."
        )


def find_setters(env_config: EnvConfig, setting: Settings) -> dict[str, ParameterSetter]:
    """Find the setter of each parameter.

    Raises:
        UsageError: a parameter can't be set, or not safely.
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
    """Whether two spaces are exactly equal; Gymnasium's comparison is approximate."""
    if isinstance(one, Box) and isinstance(other, Box):
        ends = (one.low, other.low), (one.high, other.high)
        return one.dtype == other.dtype and all(np.array_equal(a, b) for a, b in ends)
    if isinstance(one, Dict) and isinstance(other, Dict):
        return list(one) == list(other) and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, Tuple) and isinstance(other, Tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other
