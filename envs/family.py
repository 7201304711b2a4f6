"""What a family of environments is: named, bounded parameters and pure batched dynamics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from gymnasium import Space
from torch import Tensor

from envs.errors import UsageError

Split = Literal["train", "test", "extrapolate"]
SPLITS: tuple[Split, ...] = ("train", "test", "extrapolate")


@dataclass(frozen=True)
class Range:
    """Closed interval of one task parameter; training tasks draw from it uniformly.

    `beyond` is a wider interval: what lies in it and outside `[low, high]` is the
    extrapolation range, which training never sees.
    """

    low: float
    high: float
    unit: str = ""
    beyond: tuple[float, float] | None = None
    default: float | None = None  # of a task that doesn't say; None is half-way

    def __post_init__(self) -> None:
        outer = self.bounds
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise UsageError(f"Range({self.low}, {self.high}): give finite low <= high.")
        if not (outer[0] <= self.low and self.high <= outer[1]):
            raise UsageError(f"Range beyond={outer}: make it contain [{self.low}, {self.high}].")

    @property
    def usual(self) -> float:
        """Value of a task that doesn't say."""
        return (self.low + self.high) / 2 if self.default is None else self.default

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value that any task may have."""
        return self.beyond or (self.low, self.high)

    def draw(self, u: Tensor, extrapolate: bool = False) -> Tensor:
        """Map `u`, uniform in [0, 1), to values of the same shape."""
        if not extrapolate or self.beyond is None:
            return self.low + (self.high - self.low) * u
        below, above = self.low - self.beyond[0], self.beyond[1] - self.high
        x = u * (below + above)
        return torch.where(x < below, self.beyond[0] + x, self.high + (x - below))

    def allows(self, value: float) -> bool:
        # Values travel as float32: 0.8 arrives as 0.800000012.
        slack = 1e-6 * max(abs(b) for b in self.bounds)
        return self.bounds[0] - slack <= value <= self.bounds[1] + slack

    def __str__(self) -> str:
        return f"[{self.low:g}, {self.high:g}]"


@dataclass(frozen=True)
class Choice:
    """Finite set of values of one task parameter; training tasks draw from it uniformly."""

    values: tuple[float, ...]
    unit: str = ""
    beyond: None = None

    @property
    def usual(self) -> float:
        """Value of a task that doesn't say."""
        return self.values[0]

    def draw(self, u: Tensor, extrapolate: bool = False) -> Tensor:
        """Map `u`, uniform in [0, 1), to values of the same shape."""
        del extrapolate  # a set has no outside
        index = (u * len(self.values)).long().clamp(max=len(self.values) - 1)
        # Sums of masked constants, since a table made here would be a copy from the host.
        return sum(
            (value * (index == i).to(u.dtype) for i, value in enumerate(self.values)),
            torch.zeros_like(u),
        )

    def allows(self, value: float) -> bool:
        # Values travel as float32: 0.1 arrives as 0.100000001.
        return any(math.isclose(value, v, rel_tol=1e-6, abs_tol=1e-9) for v in self.values)

    def __str__(self) -> str:
        shown = [f"{v:g}" for v in self.values]
        if len(shown) > 8:
            shown = [*shown[:3], "...", shown[-1]]
        return "{" + ", ".join(shown) + "}"


Parameter = Range | Choice


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
        start = {k: p.usual for k, p in known.items()}
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
            + ", ".join(f"{k} in {allowed(p)}" for k, p in known.items())
            + "."
        )
    if not known[name].allows(value):
        raise UsageError(
            f"{owner}: {name}={value:g} is out of bounds: give a value in {allowed(known[name])}."
        )


def allowed(parameter: Parameter) -> str:
    """Everything that a task's parameter may be, with its unit: `[-0.8, 0.8] m`."""
    everything = parameter if isinstance(parameter, Choice) else Range(*parameter.bounds)
    return f"{everything} {parameter.unit}".strip()


def task_values(task: Any) -> list[dict[str, float]]:
    """Parameters of each of the N tasks as plain numbers."""
    columns = [column.flatten().tolist() for column in task]
    return [dict(zip(task._fields, row, strict=True)) for row in zip(*columns, strict=True)]


def sample_tasks(
    family: Family,
    n: int,
    gen: torch.Generator | None = None,
    split: Split = "train",
    device: torch.device | str = "cpu",
) -> Any:
    """Draw n tasks of a split, fields (n, 1) float32 on `device`.

    For a continuous family `train` and `test` are one distribution: what makes test tasks unseen
    is a stream `gen` that training never uses. For a finite one they are disjoint members, each
    drawn once before any is drawn twice.
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
    if split == "extrapolate" and not any(p.beyond for p in known.values()):
        raise UsageError(
            f"{family.name} has nothing to extrapolate to: no parameter has a range beyond "
            "training's; use --split test."
        )
    draws = [p.draw(x, split == "extrapolate") for p, x in zip(known.values(), u, strict=True)]
    return family.task_type(**dict(zip(known, draws, strict=True)))
