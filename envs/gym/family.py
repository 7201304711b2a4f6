"""Any Gymnasium environment as a family, simulated in worker processes."""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import gymnasium
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from metarl.envs.core.errors import RunError, UsageError
from metarl.envs.core.parameters import Choice, Parameter
from metarl.envs.gym.bound_env import EnvConfig, Settings
from metarl.envs.gym.checks.probe_values import probe
from metarl.envs.gym.parameter_setters import SetValue
from metarl.envs.gym.simulator import MultiprocessSimulator
from metarl.envs.gym.spaces import Image
from metarl.envs.gym.specs import find_spec
from metarl.envs.gym.worker_envs import Agreed, Failure
from metarl.envs.gym.worker_pool import Pool, WorkerDied

STEP_TIMEOUT = 60.0  # s


class GymnasiumFamily:
    """Variants of one Gymnasium environment.

    Args:
        environment: an id, `module:id`, or a spec.
        vary: the hidden parameters. Names are looked up among the keywords of `make`, then the
            attributes of the unwrapped environment, then the fields of its MuJoCo model
            (`gravity[2]`, `body_mass[torso]`). With a trailing `*`, values are relative to the
            environment's. Attributes are set while the environment is constructed, so that values
            computed from them follow; they are refused if other code may hold the same value.
        fixed: constant parameters of the same kinds.
        functions: custom setters by name, called with (env, value) before each reset; they take
            precedence.
        live: parameters known to have an effect that random actions might not show.
        image: the channel order of images, or "vector" to disable images.
        workers: number of worker processes; 0 for one per torch thread.
        step_timeout: seconds after which a step counts as hung.
        exact_replay: False for environments that aren't reproducible, such as hardware. Then
            resumed runs differ from uninterrupted ones, episodes of dead workers can't be replayed,
            and parameters can't be checked for an effect.
        name, source, about: the displayed name, origin and one-sentence description.

    Raises:
        UsageError: unknown environment or parameter, a parameter without effect, unsupported
            spaces, no time limit, or a variant that can't be made. Most checks run at first use.
    """

    def __init__(
        self,
        environment: str | EnvSpec,
        vary: Mapping[str, Parameter],
        *,
        fixed: Mapping[str, Any] | None = None,
        functions: Mapping[str, SetValue] | None = None,
        live: Collection[str] = (),
        image: Image = "auto",
        name: str | None = None,
        source: str = "Gymnasium",
        about: str = "",
        workers: int = 0,
        step_timeout: float = STEP_TIMEOUT,
        exact_replay: bool = True,
    ) -> None:
        spec, companions = find_spec(environment, vary)
        self.name = name or spec.id
        if not vary:
            raise UsageError(f"{self.name}: nothing varies: give --vary NAME=LOW:HIGH.")
        self._raw = {re.sub(r"\W+", "_", raw).strip("_"): raw for raw in vary}
        if len(self._raw) < len(vary):
            raise UsageError(f"{self.name}: {', '.join(vary)}: give names that differ in letters.")
        self.parameters = {k: vary[raw] for k, raw in self._raw.items()}
        self.task_type = namedtuple("Task", self.parameters)  # type: ignore[misc]
        self.image = image
        self.env_config = EnvConfig(
            spec, {**companions, **(fixed or {})}, dict(functions or {}), image
        )
        self.vary, self.live = dict(vary), tuple(live)
        if unknown := [k for k in self.live if k not in vary]:
            raise UsageError(
                f"{self.name}: --live {unknown[0]}: it does not vary: give one of "
                f"{', '.join(vary)}."
            )
        self.source, self.about = source, about or f"Variants of {spec.id}."
        self.workers, self.step_timeout = workers, step_timeout
        self.exact_replay = exact_replay
        self._pool: Pool | None = None
        self._found: dict[str, Any] = {}

    @property
    def observation_space(self) -> Box:
        """Space of encoded observations, (D,) or (C, H, W)."""
        space: Box = self._explored["observation_space"]
        return space

    @property
    def action_space(self) -> Box | Discrete | MultiDiscrete:
        """Space of encoded actions; bounded Boxes are scaled to [-1, 1]."""
        space: Box | Discrete | MultiDiscrete = self._explored["action_space"]
        return space

    @property
    def horizon(self) -> int:
        """Maximum time limit of all variants, in steps; each variant uses its limit."""
        limit: int = self._explored["limit"]
        return limit

    @property
    def success(self) -> bool:
        """Whether the environment reports success in `info`."""
        return bool(self._explored["success"])

    @property
    def notes(self) -> list[str]:
        """Messages on how the spaces are interpreted."""
        obs, act = self._explored["about"]
        return [f"{self.name}: observation: {obs}; action: {act}"]

    @property
    def warnings(self) -> list[str]:
        """Messages on unexpected properties of the environment."""
        lines = []
        if self._explored["has_mask"]:
            lines.append(
                f"{self.name} provides a mask of legal actions (action_mask), which is ignored: "
                "illegal actions are tried too."
            )
        for name, (count, tried) in self._explored["alike"].items():
            if count:
                lines.append(
                    f"{self.name}: {count} of {tried} held-out values of {name} behave exactly "
                    "like a training value under random actions: they are not unseen."
                )
        return lines

    @property
    def alike(self) -> dict[str, tuple[int, int]]:
        """By parameter, the number of held-out values that behave like a training value, and the
        number tried; empty before the first use of the environment."""
        return {k: v for k, v in self._found.get("alike", {}).items() if v[0]}

    @property
    def agreed(self) -> Agreed:
        """Facts about the family that workers need."""
        found = self._explored
        return Agreed(found["setters"], found["form"], found["limit"])

    def changed(self, vary: Mapping[str, Parameter], fixed: Mapping[str, Any]) -> GymnasiumFamily:
        """The same environment with other parameters and additional constants."""
        constants = {**self.env_config.fixed, **fixed}
        return GymnasiumFamily(
            self.env_config.spec,
            {k: v for k, v in vary.items() if k not in fixed},
            fixed=constants,
            functions=self.env_config.functions,
            live=[k for k in self.live if k in vary and k not in fixed],
            image=self.env_config.image,
            name=self.name,
            source=self.source,
            about=self.about,
            workers=self.workers,
            step_timeout=self.step_timeout,
            exact_replay=self.exact_replay,
        )

    def settings(self, values: Mapping[str, float]) -> Settings:
        """Settings of the environment for the values of a task."""
        return {self._raw[k]: setting(self.parameters[k], v) for k, v in values.items()}

    def make_env(self, render: bool = False, **values: float) -> gymnasium.Env[Any, Any]:
        """One variant as a plain Gymnasium environment in this process."""
        from metarl.envs.gym.bound_env import find_setters
        from metarl.envs.gym.worker_envs import WorkerEnvs

        defaults = {k: p.default_value for k, p in self.parameters.items()}
        setting = self.settings({**defaults, **values})
        worker_envs = WorkerEnvs(self.env_config, 0)
        worker_envs.setters = find_setters(self.env_config, setting)
        bound = worker_envs.take(setting, render=render)
        bound.apply(setting)
        return bound.env

    def simulate(
        self, task: Any, episodes: int, gen: torch.Generator | None, render: bool = False
    ) -> MultiprocessSimulator:
        """A simulator for `episodes` episodes of each task in the workers."""
        self._explored  # noqa: B018  raises if the environment is invalid
        return MultiprocessSimulator(self, self._workers(), task, episodes, gen, render)

    def can_be_filmed(self) -> bool:
        """Whether the environment can render images on this machine."""
        defaults = self.settings({k: p.default_value for k, p in self.parameters.items()})
        try:
            pool = self._workers()
            pool.share({})
            return bool(pool.ask({0: ("draws", (defaults, self.agreed))})[0])
        except (Failure, WorkerDied, UsageError):
            self.close()
            return False

    def close(self) -> None:
        """Terminate the worker processes; the next use starts new ones."""
        if self._pool:
            self._pool.close()
        self._pool = None

    def _workers(self) -> Pool:
        if self._pool is None or self._pool.closed:
            try:
                count = self.workers or torch.get_num_threads()
                self._pool = Pool(self.env_config, count, self.step_timeout)
            except (Failure, WorkerDied) as error:
                raise RunError(f"{self.name}: {error}: fix the environment.") from error
        return self._pool

    @property
    def _explored(self) -> dict[str, Any]:
        """Results of checking the environment in a worker, such as spaces and time limit."""
        if not self._found:
            defaults = {k: p.default_value for k, p in self.parameters.items()}
            probes = {
                self._raw[k]: probe(
                    p, partial(self._variant, defaults, k), self._raw[k] in self.live
                )
                for k, p in self.parameters.items()
            }
            pool = self._workers()
            try:
                pool.share({})
                question = "explore", (self.settings(defaults), probes, self.exact_replay)
                found = pool.ask({0: question})[0]
            except (UsageError, Failure, WorkerDied) as error:
                self.close()
                hint = "" if isinstance(error, UsageError) else ": fix it, or narrow the ranges."
                raise UsageError(f"{self.name}: {error}{hint}") from error
            if found["limit"] is None:
                self.close()
                raise UsageError(
                    f"{self.name} has no known time limit: give one in steps, such as --set "
                    "max_episode_steps=500; episodes may still end earlier."
                )
            self._found = found
        return self._found

    def _variant(self, defaults: Mapping[str, float], name: str, value: float) -> Settings:
        """The default variant with another value of one parameter."""
        return self.settings({**defaults, name: value})

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pool": None}


def setting(parameter: Parameter, value: float) -> Any:
    """The value passed to the environment: a label, an int or a float."""
    if isinstance(parameter, Choice):
        if parameter.labels:
            return parameter.labels[round(value)]
        value = min((*parameter.values, *parameter.extrapolation), key=lambda v: abs(v - value))
        whole = all(v == round(v) for v in parameter.values)
    else:
        whole = parameter.integer
    return round(value) if whole else float(value)
