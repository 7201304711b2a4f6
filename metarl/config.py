"""Settings: each has one default, one range and one help text, all here."""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from tyro.conf import Positional, UseAppendAction, arg

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
        tuple[str, ...]: isinstance(value, tuple) and all(type(n) is str for n in value),
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
        arg(help="family (see `metarl families`), your own as module:Class, or any Gymnasium id"),
    ] = "forager"
    vary: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="NAME=RANGE",
            help="what is hidden: NAME=LOW:HIGH[:log][:int] or NAME=A,B,C; once for each parameter",
        ),
    ] = ()
    hold_out: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="NAME=RANGE",
            help="values that training never sees and test tasks have: NAME=LOW:HIGH or NAME=A,B",
        ),
    ] = ()
    extrapolate: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            metavar="NAME=RANGE",
            help="wider range, or further values, for `evaluate --split extrapolate`",
        ),
    ] = ()
    set: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(metavar="NAME=VALUE", help="constant of the world, such as max_episode_steps=200"),
    ] = ()
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
    policy: Annotated[
        Literal["auto", "mlp", "cnn"],
        arg(help="network; auto: cnn for images (C, H, W) of 8 x 8 or more, else mlp"),
    ] = "auto"
    hidden: Annotated[
        tuple[int, ...],
        *number("units in each hidden layer; a cnn has one such layer, the last", 1, 16_384),
    ] = (64, 64)
    log_std_init: Annotated[
        float, *number("first log standard deviation, in half action boxes", -10, 3)
    ] = 0.0
    memory: Annotated[
        Literal["none", "gru", "fwp"],
        arg(
            help="what adapts: none: weights; gru (RL2) or fwp (fast-weight programmer): the state "
            "of a network that reads the whole trial"
        ),
    ] = "none"
    trial: Annotated[int, *number("episodes of one task that a memory lasts", 1, 1000)] = 2
    minibatches: Annotated[
        int, *number("parts of a batch of trials, with an update after each", 1, 1000)
    ] = 4
    value_weight: Annotated[float, *number("weight of a memory's value loss", 0)] = 0.5
    entropy: Annotated[float, *number("weight of a memory's entropy bonus, nats", 0)] = 0.01
    lr_decay: Annotated[
        bool, arg(help="let a memory's meta-lr fall linearly to 0 over the iterations of the run")
    ] = False

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
    workers: Annotated[
        int, *number("processes that step a Gymnasium environment; 0 is one a thread", 0, 1024)
    ] = 0
    step_timeout: Annotated[
        float, *number("seconds after which a step of an environment counts as hung", 0.1, 1e6)
    ] = 60.0

    def __post_init__(self) -> None:
        check(self)


def from_record(kind: type[T], record: dict[str, Any]) -> T:
    """A settings object from its JSON, in which a tuple is a list."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in record.items()})
