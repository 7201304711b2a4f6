"""Any Gymnasium environment as a family: its parameters vary, worker processes step it."""

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
        vary: what is hidden. A name is looked for among the keywords of `make`, then the attributes
            of the unwrapped environment, then the fields of its MuJoCo model (`gravity[2]`,
            `body_mass[torso]`); with a `*` at its end the value is relative to the environment's.
            An attribute is set while the environment is constructed, so that what is computed from
            it follows; it is refused where its value may have been taken from elsewhere.
        fixed: settings of the same kinds that don't vary.
        functions: by name, called with (env, value) before each reset; they win over all else.
        live: parameters known to change something, which random play might not find out.
        image: where pictures have their channels, or that observations are none.
        workers: processes; 0 is one for each thread of torch.
        step_timeout: seconds after which a step that isn't done is taken for hung.
        exact_replay: False for an environment that doesn't repeat itself, such as hardware. Then a
            resumed run isn't the uninterrupted one, the episodes of a worker that is lost can't be
            played again, and nobody can check whether a parameter changes anything.
        name, source, about: for people: what it is called, where it comes from, one sentence.
    Raises:
        UsageError: unknown environment or parameter, one that changes nothing, unsupported spaces,
            no time limit, or a variant that can't be made. Found when first used.
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
                f"{self.name}: --live {unknown[0]}: not a parameter that varies: give one of "
                f"{', '.join(vary)}."
            )
        self.source, self.about = source, about or f"Variants of {spec.id}."
        self.workers, self.step_timeout = workers, step_timeout
        self.exact_replay = exact_replay
        self._pool: Pool | None = None
        self._found: dict[str, Any] = {}

    @property
    def observation_space(self) -> Box:
        """What the agent sees, (D,) or (C, H, W)."""
        space: Box = self._explored["observation_space"]
        return space

    @property
    def action_space(self) -> Box | Discrete | MultiDiscrete:
        """What it does; boxes are scaled to [-1, 1]."""
        space: Box | Discrete | MultiDiscrete = self._explored["action_space"]
        return space

    @property
    def horizon(self) -> int:
        """Steps in the longest episode of any variant; each ends at its own limit."""
        limit: int = self._explored["limit"]
        return limit

    @property
    def success(self) -> bool:
        """Whether the environment says in `info` if an episode succeeded."""
        return bool(self._explored["success"])

    @property
    def notes(self) -> list[str]:
        """How the spaces were understood, in lines for a person."""
        seen, done = self._explored["about"]
        return [f"{self.name}: observation: {seen}; action: {done}"]

    @property
    def warnings(self) -> list[str]:
        """What is not as one might expect of this environment, in lines for a person."""
        lines = []
        if self._explored["has_mask"]:
            lines.append(
                f"{self.name} says which actions are legal (action_mask): that is ignored, illegal "
                "ones are tried too."
            )
        for name, (count, tried) in self._explored["alike"].items():
            if count:
                lines.append(
                    f"{self.name}: {count} of {tried} held-out values of {name} play exactly as a "
                    "training value does, as far as random play tells: they are not unseen."
                )
        return lines

    @property
    def alike(self) -> dict[str, tuple[int, int]]:
        """By parameter, how many held-out values play as a training value, and how many of them
        were tried; empty until the environment was first used."""
        return {k: v for k, v in self._found.get("alike", {}).items() if v[0]}

    @property
    def agreed(self) -> Agreed:
        """What the workers go by."""
        found = self._explored
        return Agreed(found["setters"], found["form"], found["limit"])

    def changed(self, vary: Mapping[str, Parameter], fixed: Mapping[str, Any]) -> GymnasiumFamily:
        """The same environment with these parameters, and more constants."""
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
        """What the environment gets for the values of a task."""
        return {self._raw[k]: setting(self.parameters[k], v) for k, v in values.items()}

    def make_env(self, render: bool = False, **values: float) -> gymnasium.Env[Any, Any]:
        """One variant as a plain Gymnasium environment in this process, to look at or replay."""
        from metarl.envs.gym.bound_env import find_setters
        from metarl.envs.gym.worker_envs import WorkerEnvs

        defaults = {k: p.default_value for k, p in self.parameters.items()}
        setting = self.settings({**defaults, **values})
        worker_envs = WorkerEnvs(self.env_config, 0)
        worker_envs.setters = find_setters(self.env_config, setting)
        made = worker_envs.take(setting, render=render)
        made.apply(setting)
        return made.env

    def simulate(
        self, task: Any, episodes: int, gen: torch.Generator | None, render: bool = False
    ) -> MultiprocessSimulator:
        """Start `episodes` episodes of each task in the workers."""
        self._explored  # noqa: B018  before the first episode: raises what is wrong
        return MultiprocessSimulator(self, self._workers(), task, episodes, gen, render)

    def can_be_filmed(self) -> bool:
        """Whether the environment draws pictures, here and now."""
        defaults = self.settings({k: p.default_value for k, p in self.parameters.items()})
        try:
            pool = self._workers()
            pool.share({})
            return bool(pool.ask({0: ("draws", (defaults, self.agreed))})[0])
        except (Failure, WorkerDied, UsageError):
            self.close()
            return False

    def close(self) -> None:
        """End the worker processes; the next use starts new ones."""
        if self._pool:
            self._pool.close()
        self._pool = None

    def _workers(self) -> Pool:
        if self._pool is None or self._pool.closed:
            try:
                count = self.workers or torch.get_num_threads()
                self._pool = Pool(self.env_config, count, self.step_timeout)
            except (Failure, WorkerDied) as error:
                raise RunError(f"{self.name}: {error}: mend the environment.") from error
        return self._pool

    @property
    def _explored(self) -> dict[str, Any]:
        """What a worker found out: every parameter live, the spaces, the time limit."""
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
                hint = "" if isinstance(error, UsageError) else ": mend it, or narrow the ranges."
                raise UsageError(f"{self.name}: {error}{hint}") from error
            if found["limit"] is None:
                self.close()
                raise UsageError(
                    f"{self.name} has no time limit that can be read: give one, in steps, with "
                    "--set max_episode_steps=500; an end of the environment's own still counts."
                )
            self._found = found
        return self._found

    def _variant(self, defaults: Mapping[str, float], name: str, value: float) -> Settings:
        """The usual variant, but for one parameter."""
        return self.settings({**defaults, name: value})

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pool": None}


def setting(parameter: Parameter, value: float) -> Any:
    """What the environment gets for a value: its label, a whole number, or a float."""
    if isinstance(parameter, Choice):
        if parameter.labels:
            return parameter.labels[round(value)]
        value = min((*parameter.values, *parameter.extrapolation), key=lambda v: abs(v - value))
        whole = all(v == round(v) for v in parameter.values)
    else:
        whole = parameter.integer
    return round(value) if whole else float(value)
