"""Families of tasks: named, bounded parameters and pure batched dynamics."""

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

FEW = 10_000  # families with at most this many tasks are drawn repeatedly during training


class Family(Protocol):
    """Environments with hidden parameters: the `Range` and `Choice` fields of a frozen dataclass.

    Every method is a pure function of tensors for N tasks x B episodes. `noise` is uniform in
    [0, 1) and drawn by the caller; its last axis has `reset_noise` or `step_noise` entries.

    Optional methods: `members(split, device)` returns all tasks of a split as one `task_type`, for
    families with a finite set of tasks that is split jointly. `frame(state, task)` renders the
    first episode of the first task as an (H, W, 3) uint8 array. `oracle(state, task)` returns the
    action of an agent that knows the task.
    """

    name: ClassVar[str]
    source: ClassVar[str]  # where the environment comes from; optional for custom families
    task_type: ClassVar[type]  # NamedTuple, a (N, 1) tensor for each parameter

    @property
    def reset_noise(self) -> int:
        """Number of uniform random values that each reset uses."""
        ...

    @property
    def step_noise(self) -> int:
        """Number of uniform random values that each step uses."""
        ...

    @property
    def horizon(self) -> int:
        """Maximum number of steps per episode."""
        ...

    @property
    def observation_space(self) -> Space[Any]: ...

    @property
    def action_space(self) -> Space[Any]: ...

    def reset(self, task: Any, noise: Tensor) -> Any:
        """Initial state of each episode.

        Args:
            noise: (N, B, reset_noise).
        """
        ...

    def observe(self, state: Any) -> Tensor:
        """Observations (N, B, *observation_space.shape), which don't reveal the task."""
        ...

    def step(self, state: Any, act: Tensor, task: Any, noise: Tensor) -> tuple[Any, Tensor, Tensor]:
        """Next state, reward (N, B), terminated (N, B) bool.

        Args:
            act: (N, B, A) float for a Box; integers for others, (N, B) for a Discrete, (N, B, A)
                for a MultiDiscrete.
            noise: (N, B, step_noise).
        """
        ...


def parameters(family: Family) -> dict[str, Parameter]:
    """The hidden parameters, in the order of the fields of the family's `task_type`."""
    own = getattr(family, "parameters", None)
    if own is not None:
        return dict(own)
    found = {f.name: getattr(family, f.name) for f in dataclasses.fields(family)}  # type: ignore[arg-type]
    return {name: value for name, value in found.items() if isinstance(value, Range | Choice)}


def make_task(family: Family, **values: float) -> Any:
    """One task, fields (1, 1) float32; omitted parameters get a value from the training split.

    Raises:
        UsageError: unknown parameter, or a value outside its bounds.
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
    """Group more than ten similar numbered parameters as `x_0 ... x_99`, for display."""
    return fold(known, lambda parameter: (str(parameter), allowed(parameter)))


def allowed(parameter: Parameter) -> str:
    """All values that a parameter may have in any task, with the unit: `[-0.8, 0.8] m`."""
    if isinstance(parameter, Choice):
        every = dataclasses.replace(parameter, values=parameter.values + parameter.extrapolation)
        return f"{every} {parameter.unit}".strip()
    low, high = parameter.bounds
    whole = dataclasses.replace(
        parameter, low=low, high=high, extrapolation=None, held_out=None, validation=None
    )
    return f"{whole} {parameter.unit}".strip()


def describe(family: Any, values: Mapping[str, float]) -> str:
    """A readable description of a task: `gravity=-9.8, map=4x4`, with at most ten parameters."""
    known = parameters(family)
    shown = [
        f"{k}={p.show(v) if isinstance(p := known[k], Choice) else f'{v:g}'}"
        for k, v in values.items()
    ]
    more = [f"and {len(shown) - 10} more"] if len(shown) > 10 else []
    return ", ".join([*shown[:10], *more])


def unseen(family: Family, split: Split = "test") -> str:
    """How tasks of the test or validation split differ from training tasks."""
    if hasattr(family, "members"):
        own, train = (set(zip(*_columns(family.members(s)), strict=True)) for s in (split, "train"))
        return "none: tasks of training" if own & train else "disjoint members"
    known = parameters(family)
    field = "validation" if split == "validation" else "held_out"
    if held_out := [name for name, p in known.items() if getattr(p, field)]:
        return f"held-out {', '.join(held_out)}"
    sizes = [len(p.values) if isinstance(p, Choice) else p.whole_numbers for p in known.values()]
    if math.prod(sizes) > FEW:
        return "an independent stream of draws"
    if any(p.held_out or p.validation for p in known.values()):
        return "none: tasks of training"
    return "none: training sees every task"


def task_values(task: Any) -> list[dict[str, float]]:
    """Parameters of each of the N tasks as Python floats."""
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

    Test and validation tasks use the values that a parameter holds out for them. A parameter
    without held-out values uses its training values, never those held out for the other split. In
    continuous families without held-out values, the train, validation and test splits have the same
    distribution; tasks are unseen because they come from a generator that training never uses.
    Families with `members` have disjoint splits, and each member is drawn once before any is drawn
    twice.

    Raises:
        UsageError: `extrapolate`, but no parameter has a range beyond training.
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
