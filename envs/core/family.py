"""What a family of environments is: named, bounded parameters and pure batched dynamics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import torch
from gymnasium import Space
from torch import Tensor

from metarl.envs.core.errors import UsageError
from metarl.envs.core.parameters import Choice, Parameter, Range
from metarl.envs.core.splits import Split
from metarl.envs.core.summarize import fold

FEW = 10_000  # tasks, or fewer: training draws them again and again


class Family(Protocol):
    """A world with hidden parameters: the `Range` and `Choice` fields of a frozen dataclass.

    Every method is a pure function of tensors for N tasks x B episodes. `noise` is uniform in
    [0, 1), drawn outside, with as many last-axis values as the two `*_noise` counts ask for.
    A family with a finite, jointly split set of tasks also has `members(split, device)`, all of
    them as one `task_type`. One that can be looked at has `frame(state, task)`, an (H, W, 3) uint8
    array of the first episode of the first task. One that knows has `oracle(state, task)`, the
    action of an agent that is told the task.
    """

    name: ClassVar[str]
    source: ClassVar[str]  # where the world comes from; not needed of your own
    task_type: ClassVar[type]  # NamedTuple, a (N, 1) tensor for each parameter

    @property
    def reset_noise(self) -> int:
        """Uniform numbers that an episode needs to start."""
        ...

    @property
    def step_noise(self) -> int:
        """Uniform numbers that an episode needs for each step."""
        ...

    @property
    def horizon(self) -> int:
        """Steps in the longest episode."""
        ...

    @property
    def observation_space(self) -> Space[Any]: ...

    @property
    def action_space(self) -> Space[Any]: ...

    def reset(self, task: Any, noise: Tensor) -> Any:
        """First state of each episode. Args: noise (N, B, reset_noise)."""
        ...

    def observe(self, state: Any) -> Tensor:
        """What the agent sees, (N, B, *observation_space.shape); the task stays hidden."""
        ...

    def step(self, state: Any, act: Tensor, task: Any, noise: Tensor) -> tuple[Any, Tensor, Tensor]:
        """Next state, reward (N, B), terminated (N, B) bool.

        Args:
            act: (N, B, A) for a Box, integers for others: (N, B) for a Discrete, else (N, B, A).
            noise: (N, B, step_noise).
        """
        ...


def parameters(family: Family) -> dict[str, Parameter]:
    """The hidden parameters, in the order of the family's `task_type`."""
    own = getattr(family, "parameters", None)
    if own is not None:
        return dict(own)
    found = {f.name: getattr(family, f.name) for f in dataclasses.fields(family)}  # type: ignore[arg-type]
    return {name: value for name, value in found.items() if isinstance(value, Range | Choice)}


def make_task(family: Family, **values: float) -> Any:
    """One task, fields (1, 1) float32; parameters left out take a value of training's.

    Raises:
        UsageError: a parameter that doesn't exist, or a value outside its bounds.
    """
    known = parameters(family)
    for name, value in values.items():
        check_parameter(family.name, known, name, value)
    if hasattr(family, "members"):
        start = task_values(family.members("train"))[0]
    else:
        start = {k: p.default_value for k, p in known.items()}
    return family.task_type(
        **{
            k: torch.tensor([[float(v)]], dtype=torch.float32)
            for k, v in {**start, **values}.items()
        }
    )


def check_parameter(owner: str, known: Mapping[str, Parameter], name: str, value: float) -> None:
    """Raise UsageError unless `owner` has this parameter and allows this value."""
    if name not in known:
        raise UsageError(
            f"{owner} has no parameter '{name}': give one of "
            + ", ".join(f"{k} in {allowed(p)}" for k, p in folded(known).items())
            + "."
        )
    if not known[name].allows(value):
        raise UsageError(
            f"{owner}: {name}={value:g} is out of bounds: give a value in {allowed(known[name])}."
        )


def folded(known: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """For people: more than ten alike, told apart by numbers alone, as one `x_0 ... x_99`."""
    return fold(known, lambda parameter: (str(parameter), allowed(parameter)))


def allowed(parameter: Parameter) -> str:
    """Everything that a task's parameter may be, with its unit: `[-0.8, 0.8] m`."""
    if isinstance(parameter, Choice):
        every = dataclasses.replace(parameter, values=parameter.values + parameter.extrapolation)
        return f"{every} {parameter.unit}".strip()
    low, high = parameter.bounds
    whole = dataclasses.replace(
        parameter, low=low, high=high, extrapolation=None, held_out=None, validation=None
    )
    return f"{whole} {parameter.unit}".strip()


def describe(family: Any, values: Mapping[str, float]) -> str:
    """A task as a person reads it: `gravity=-9.8, map=4x4`, the first ten of many parameters."""
    known = parameters(family)
    shown = [
        f"{k}={p.show(v) if isinstance(p := known[k], Choice) else f'{v:g}'}"
        for k, v in values.items()
    ]
    more = [f"and {len(shown) - 10} more"] if len(shown) > 10 else []
    return ", ".join([*shown[:10], *more])


def unseen(family: Family, split: Split = "test") -> str:
    """What sets tasks of `test`, or of `validation`, apart from training's."""
    if hasattr(family, "members"):
        own, train = (set(zip(*_columns(family.members(s)), strict=True)) for s in (split, "train"))
        return "none: tasks of training" if own & train else "disjoint members"
    known = parameters(family)
    field = "validation" if split == "validation" else "held_out"
    if kept := [name for name, p in known.items() if getattr(p, field)]:
        return f"held-out {', '.join(kept)}"
    sizes = [len(p.values) if isinstance(p, Choice) else p.whole_numbers for p in known.values()]
    if math.prod(sizes) > FEW:
        return "an independent stream of draws"
    if any(p.held_out or p.validation for p in known.values()):
        return "none: tasks of training"
    return "none: training sees every task"


def task_values(task: Any) -> list[dict[str, float]]:
    """Parameters of each of the N tasks as plain numbers."""
    return [dict(zip(task._fields, row, strict=True)) for row in zip(*_columns(task), strict=True)]


def _columns(task: Any) -> list[list[float]]:
    return [column.flatten().tolist() for column in task]


def sample_tasks(
    family: Family,
    n: int,
    gen: torch.Generator | None = None,
    split: Split = "train",
    device: torch.device | str = "cpu",
) -> Any:
    """Draw n tasks of a split, fields (n, 1) float32 on `device`.

    Test and validation tasks have the values that a parameter holds out for them; a parameter
    that holds none out has those of training, and never those of the other split. For a
    continuous family without hold-outs `train`, `validation` and `test` are one distribution: what
    makes tasks unseen is a stream `gen` that training never uses. A family with `members` has
    disjoint ones, each drawn once before any is drawn twice.

    Raises:
        UsageError: `extrapolate` where no parameter has anything beyond training.
    """
    known = parameters(family)
    if hasattr(family, "members"):
        members = family.members(split, device)
        order = [
            torch.rand(len(members[0]), generator=gen, device=device).argsort()
            for _ in range(-(-n // len(members[0])))
        ]
        index = torch.cat(order)[:n]
        return family.task_type(*(column[index] for column in members))
    u = torch.rand(len(known), n, 1, generator=gen, device=device)
    if split == "extrapolate" and not any(p.extrapolation for p in known.values()):
        raise UsageError(
            f"{family.name} has nothing to extrapolate to: no parameter has a range beyond "
            "training's; use --split test."
        )
    draws = [p.draw(x, split) for p, x in zip(known.values(), u, strict=True)]
    return family.task_type(**dict(zip(known, draws, strict=True)))
