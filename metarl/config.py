"""Settings: each has one default, one range and one help text, all here."""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from tyro.conf import Positional, arg

from envs import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Within:
    """Closed interval that a number, or each number of a tuple, must lie in."""

    low: float
    high: float = math.inf

    def __str__(self) -> str:
        return f"in [{self.low:g}, {self.high:g}]" if self.high < math.inf else f">= {self.low:g}"


def check(settings: Any) -> None:
    """Raise UsageError that names the flag, the value and what is allowed."""
    hints = get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        kind, *extras = get_args(hints[field.name])
        flag = "--" + field.name.replace("_", "-")
        for bound in (e for e in extras if isinstance(e, Within)):
            for n in value if isinstance(value, tuple) else (value,):
                if isinstance(n, int | float) and not bound.low <= n <= min(bound.high, _MAX):
                    raise UsageError(f"{flag} {n}: out of range; give a value {bound}.")
        _check_kind(flag, value, kind)


_MAX = sys.float_info.max  # an open end still leaves out infinity


def _check_kind(flag: str, value: Any, kind: Any) -> None:
    """Raise UsageError unless the value is of the annotated kind; True is no number."""
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise UsageError(f"{flag} {value}: unknown; give one of {', '.join(get_args(kind))}.")
    whole = isinstance(value, int) and not isinstance(value, bool)
    right = {
        int: whole,
        float: whole or isinstance(value, float),
        bool: isinstance(value, bool),
        str: isinstance(value, str),
        tuple[int, ...]: isinstance(value, tuple) and all(type(n) is int for n in value),
    }
    if not right.get(kind, True):
        raise UsageError(f"{flag} {value}: wrong type; give {getattr(kind, '__name__', kind)}.")


def number(help: str, low: float, high: float = math.inf) -> tuple[Any, Within]:
    """Help text with its range, and the range itself, as annotations."""
    bound = Within(low, high)
    return arg(help=f"{help}; {bound}"), bound


@dataclass(frozen=True)
class TrainConfig:
    """Meta-train an agent over a family of variants."""

    family: Annotated[
        Positional[str],
        arg(help="family to train on (see `metarl families`), or your own, module:Class"),
    ] = "forager"
    algo: Annotated[
        Literal["promp", "maml"],
        arg(
            help="promp: clipped ratio and inner KL, several epochs; maml: one policy-gradient step"
        ),
    ] = "promp"
    seed: Annotated[int, *number("seed of weights, tasks and episodes", 0)] = 0
    iterations: Annotated[int, *number("meta-iterations in the whole run", 1)] = 200
    tasks: Annotated[int, *number("tasks in a meta-iteration", 1, 100_000)] = 20
    task_chunk: Annotated[
        int, *number("tasks in one tensor program; bounds memory, changes no gradient", 1, 100_000)
    ] = 50
    episodes: Annotated[
        int, *number("episodes of each task before and after each inner step", 2, 100_000)
    ] = 20
    inner_steps: Annotated[int, *number("gradient steps of adaptation in training", 0, 20)] = 1
    inner_lr: Annotated[float, *number("step size of adaptation, where it starts", 0, 100)] = 0.1
    step_size: Annotated[
        Literal["fixed", "per-weight"],
        arg(help="fixed: inner-lr throughout; per-weight: one a weight, meta-learned (Meta-SGD)"),
    ] = "per-weight"
    first_order: Annotated[bool, arg(help="drop the second-derivative term (FOMAML)")] = False
    multi_step: Annotated[
        bool, arg(help="train the return after every inner step, not after the last alone")
    ] = False
    gamma: Annotated[float, *number("discount per step", 0, 1)] = 0.99
    gae_lambda: Annotated[float, *number("lambda of the advantage estimate", 0, 1)] = 1.0
    meta_lr: Annotated[float, *number("Adam step size of the slow weights", 0, 1)] = 1e-3
    meta_lr_of_steps: Annotated[
        float, *number("Adam step size of the learned step sizes", 0, 1)
    ] = 1e-3
    max_grad_norm: Annotated[float, *number("clip the meta-gradient to this L2 norm", 1e-9)] = 1.0
    epochs: Annotated[int, *number("outer updates on each batch", 1, 100)] = 5
    clip: Annotated[float, *number("clip the outer ratio to 1 +- this; 0 does not clip", 0)] = 0.3
    inner_kl: Annotated[
        float, *number("weight of the KL of the policies before each inner step", 0)
    ] = 5e-4
    hidden: Annotated[tuple[int, ...], *number("units in each hidden layer", 1, 16_384)] = (64, 64)
    log_std_init: Annotated[
        float, *number("first log standard deviation, in half action boxes", -10, 3)
    ] = 0.0

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class RunConfig:
    """What a run does beside learning; none of it changes what is learned, but for `threads`."""

    device: Annotated[
        str, arg(help="auto, cpu, cuda or cuda:N; auto is CUDA where there is one")
    ] = "auto"
    threads: Annotated[
        int,
        *number(
            "CPU threads; the same for bit-equal results; 0 is torch's choice",
            0,
            1024,
        ),
    ] = 0
    save_every: Annotated[int, *number("iterations between checkpoints", 1)] = 10
    eval_every: Annotated[int, *number("iterations between evaluations on unseen tasks", 1)] = 25
    eval_steps: Annotated[int, *number("inner steps in evaluations", 0, 20)] = 3

    def __post_init__(self) -> None:
        check(self)


# What a published algorithm fixes; all other settings stay flags.
ALGORITHMS: dict[str, dict[str, Any]] = {
    # Rothfuss et al. 2019 (arXiv:1810.06784): TrainConfig's own defaults, with learned step sizes
    # (Li et al. 2017, arXiv:1707.09835) where the paper's are fixed.
    "promp": {},
    # Finn et al. 2017 (arXiv:1703.03400), with one policy-gradient step for the paper's TRPO.
    "maml": {"epochs": 1, "clip": 0.0, "inner_kl": 0.0, "step_size": "fixed"},
}

# Where a family needs other settings than TrainConfig's own.
FAMILY_SETTINGS: dict[str, dict[str, Any]] = {
    # What an item is worth shows at once, so credit must not drown in the rest of the episode.
    "forager": {"inner_lr": 2.0, "gamma": 0.9, "gae_lambda": 0.7, "iterations": 250},
    # Two steps in training keep the third, which only evaluation takes, from overshooting.
    "point-navigation": {"inner_steps": 2, "multi_step": True, "epochs": 3, "iterations": 150},
    "cartpole": {"inner_lr": 1.0, "iterations": 60},
    "pendulum": {
        "inner_lr": 0.3,
        "gamma": 0.95,
        "gae_lambda": 0.95,
        "meta_lr": 3e-3,
        "iterations": 90,
    },
    # Energy pays at once. Steps must be large from the start: adaptation has to become useful
    # before a policy that never adapts does, which has no way back.
    "acrobot": {"inner_lr": 2.0, "gamma": 0.9, "gae_lambda": 0.8, "iterations": 30},
    # With twice the step the second and third overshoot.
    "mountain-car": {"inner_lr": 2.0, "gamma": 0.9, "gae_lambda": 0.8, "iterations": 25},
}


def preset(family: str = "forager", algo: str = "promp", **settings: Any) -> TrainConfig:
    """The shipped settings of a family and an algorithm, and what is given instead of them.

    Raises:
        UsageError: no such algorithm.
    """
    if algo not in ALGORITHMS:
        raise UsageError(f"--algo {algo}: unknown; give one of {', '.join(ALGORITHMS)}.")
    shipped = {**FAMILY_SETTINGS.get(family, {}), **ALGORITHMS[algo]}
    return TrainConfig(family, algo, **{**shipped, **settings})  # type: ignore[arg-type]


def from_record(kind: type[T], record: dict[str, Any]) -> T:
    """A settings object from its JSON, in which a tuple is a list."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in record.items()})
