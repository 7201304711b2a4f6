"""Specification and results of baselines."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from metarl.agents.rng import stream
from metarl.baselines import tuning
from metarl.baselines.ppo_model import PPOSettings
from metarl.config.family_record import recorded_family
from metarl.config.presets import preset
from metarl.config.settings import RunConfig, TrainConfig
from metarl.envs import Family, Split, sample_tasks, task_values
from metarl.evaluation.statistics import Array
from metarl.system.machine import versions

FORMAT = 2  # of the cache; other formats are not read
LONG = {"lr": 1e-3, "epochs": 2, "minibatches": 16}  # over many variants, with many episodes
TOLD_ENTROPY = 0.01  # entropy bonus of the task-conditioned policy, per nat
ALONE = {"lr": 1e-3, "epochs": 4}  # until convergence on one variant
TUNING_SEED = 1_000_000

Params = tuple[dict[str, float], ...]


class Baseline(NamedTuple):
    """Mean return of each of M tasks after 0 ... K updates, and the environment steps used.

    A baseline that doesn't adapt has a single column.
    """

    returns: Array  # (M, K + 1)
    env_steps: Array  # (M, K + 1)
    chosen: Mapping[str, Any] = {}  # settings tuned on training tasks, and steps of training


@dataclass(frozen=True)
class BaselineSpec:
    """Variants, budget of adaptation, and budget of training.

    Attributes:
        episodes: number of episodes that each return is averaged over.
        budget: number of episodes for each of K updates.
        steps: K.
        params: M variants.
        env_steps: environment steps of each training over the training variants.
        told_steps: the same, for the task-conditioned policy.
        oracle_steps: environment steps of PPO on each variant, if the family has no oracle; 0 for
            none.
        record: the family's fields, as recorded by the run.
    """

    train: TrainConfig
    run: RunConfig
    split: Split
    seed: int
    episodes: int
    budget: int
    steps: int
    params: Params
    env_steps: int
    told_steps: int
    oracle_steps: int = 0
    record: Mapping[str, Any] = field(default_factory=dict)

    def family(self) -> Family:
        """Build the family that the run was started on; each process needs its own instance."""
        return recorded_family(self.train, self.run, self.record)

    def ppo(self) -> PPOSettings:
        """The family's defaults, with what the run changed of discount, GAE and network."""
        train, names = self.train, ("gamma", "gae_lambda", "hidden", "log_std_init")
        defaults, of_algo = preset(train.family), preset(train.family, train.algo)
        changed = {k: x for k in names if (x := getattr(train, k)) != getattr(of_algo, k)}
        return PPOSettings(**{**{k: getattr(defaults, k) for k in names}, **changed}, lr=0.0)

    def long_ppo(self) -> PPOSettings:
        """Settings for training over many variants."""
        return replace(self.ppo(), **LONG)  # type: ignore[arg-type]

    def told_ppo(self) -> PPOSettings:
        """Settings of the task-conditioned policy."""
        return replace(self.long_ppo(), told=True, entropy=TOLD_ENTROPY)

    def alone_ppo(self) -> PPOSettings:
        """Settings for training on one variant."""
        return replace(self.ppo(), **ALONE)  # type: ignore[arg-type]

    def recurrent(self) -> TrainConfig:
        """Recurrent PPO with the family's default settings."""
        names = ("vary", "hold_out", "extrapolate", "set")
        return preset(self.train.family, "rl2", **{k: getattr(self.train, k) for k in names})

    @property
    def key(self) -> dict[str, Any]:
        """Everything that the trained and tuned baselines depend on."""
        return {
            "format": FORMAT,
            "recurrent": asdict(self.recurrent()),  # has the family's settings
            "record": self.record,
            "long": asdict(self.long_ppo()),
            "told": asdict(self.told_ppo()),
            "alone": asdict(self.alone_ppo()),
            "env_steps": self.env_steps,
            "versions": {**versions(), "stable_baselines3": version("stable_baselines3")},
            "code": _code(self.family()),
        }

    @property
    def tuning(self) -> BaselineSpec:
        """The specification on training variants, drawn from a separate random stream."""
        gen = stream(TUNING_SEED, "variants of training")
        chosen = task_values(sample_tasks(self.family(), max(tuning.ROUNDS), gen, "train"))
        return replace(self, params=tuple(chosen), seed=TUNING_SEED, split="train")


def _code(family: Any) -> dict[str, str]:
    """Digests of the family's source files: a change of the code invalidates the cache."""
    names = {type(family).__module__}
    spec = getattr(getattr(family, "env_config", None), "spec", None)
    if isinstance(entry := getattr(spec, "entry_point", None), str):
        names.add(entry.partition(":")[0])
    found = {}
    for name in sorted(names):
        module = sys.modules.get(name) or find_spec(name)
        path = getattr(module, "__file__", None) or getattr(module, "origin", None)
        if path and Path(path).is_file():
            found[name] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return found
