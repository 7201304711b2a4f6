"""The contract of families: one function per rule, which raises UsageError if it is violated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metarl.envs.checks.first_observation import readable
from metarl.envs.checks.random_play import Trace, play, random_acts
from metarl.envs.core.errors import UsageError
from metarl.envs.core.family import Family, parameters, sample_tasks
from metarl.envs.core.parameters import Choice
from metarl.envs.core.simulator import probe
from metarl.envs.core.splits import SPLITS, Split

STEPS = 200  # maximum steps per episode
RTOL, ATOL = 1.3e-6, 1e-5  # tolerances, since float32 sums depend on the batch size


def check_tasks(family: Family) -> None:
    """Tasks have all parameters, in order, as (N, 1) float32 within their bounds."""
    for split in splits_of(family):
        task = sample_tasks(family, 200, torch.Generator().manual_seed(0), split)
        if task._fields != tuple(parameters(family)):
            raise UsageError(
                f"{family.name}: task_type has the fields {', '.join(task._fields)}, not its "
                f"parameters {', '.join(parameters(family))}: name the same, in the same order."
            )
        for name, column in task._asdict().items():
            if column.shape != (200, 1) or column.dtype != torch.float32:
                raise UsageError(
                    f"{family.name}: {name} of 200 {split} tasks is {tuple(column.shape)} "
                    f"{column.dtype}; make it (200, 1) torch.float32."
                )
            wrong = [x for x in column.flatten().tolist() if not parameters(family)[name].allows(x)]
            if wrong:
                raise UsageError(
                    f"{family.name}: a {split} task has {name}={wrong[0]:g}, which its parameter "
                    "doesn't allow: draw tasks within their ranges."
                )


def splits_of(family: Family) -> tuple[Split, ...]:
    """The splits of the family; without `extrapolate` if no range extends beyond training."""
    known = parameters(family).values()
    outside = hasattr(family, "members") or any(p.extrapolation for p in known)
    return SPLITS if outside else SPLITS[:3]


def check_shapes(family: Family) -> None:
    """All results have the required shapes and dtypes, and a step preserves those of the state."""
    probe(family)
    if hasattr(family, "simulate"):
        return
    task, noise = _draw(family, 4), torch.rand(4, 3, family.reset_noise)
    state = family.reset(task, noise)
    act, noise = random_acts(family.action_space, (4, 3)), torch.rand(4, 3, family.step_noise)
    nxt = family.step(state, act, task, noise)[0]
    was, now = ([(tuple(x.shape), x.dtype) for x in each] for each in (state, nxt))
    if type(nxt) is not type(state) or was != now:
        raise UsageError(
            f"{family.name}: a step makes {type(nxt).__name__} {now} of the state "
            f"{type(state).__name__} {was}: make its shapes and types the same."
        )


def check_observations(family: Family) -> None:
    """Observations lie in the observation space, and rewards are finite, on every split."""
    space = family.observation_space
    for split in splits_of(family):
        task = sample_tasks(family, 20, torch.Generator().manual_seed(0), split)
        obs, rew, _ = play(family, task, episodes=2, steps=STEPS)
        if not rew.isfinite().all():
            raise UsageError(
                f"{family.name}: a reward of a {split} task is NaN or infinite: make it finite."
            )
        for each in obs.flatten(0, 2).numpy().astype(space.dtype):
            if not space.contains(each):
                raise UsageError(
                    f"{family.name}: an observation of a {split} task lies outside its space: "
                    f"{each.tolist()!s:.120}: widen observation_space, or clip what is observed."
                )


def check_repeats(family: Family) -> None:
    """The same task, noise and actions give the same episode."""
    if not getattr(family, "exact_replay", True):
        return
    task = _draw(family, 4)
    first, again = (play(family, task, steps=STEPS) for _ in "ab")
    if any(not torch.equal(x, y) for x, y in zip(first, again, strict=True)):
        raise UsageError(
            f"{family.name}: the same task, noise and actions gave another episode: take all "
            "randomness from `noise`, and keep nothing from one episode to the next."
        )


def check_rows(family: Family) -> None:
    """An episode doesn't depend on other tasks and episodes in the batch."""
    if hasattr(family, "simulate"):
        return
    gen = torch.Generator().manual_seed(0)
    task, noise = _draw(family, 4), torch.rand(4, 3, family.reset_noise, generator=gen)
    alone = type(task)(*(x[2:3] for x in task))
    batch, single = family.reset(task, noise), family.reset(alone, noise[2:3, 1:2])
    steps = min(20, family.horizon)
    for t, act in enumerate(random_acts(family.action_space, (steps, 4, 3))):
        noise = torch.rand(4, 3, family.step_noise, generator=gen)
        batch, *results = family.step(batch, act, task, noise)
        single, *expected = family.step(single, act[2:3, 1:2], alone, noise[2:3, 1:2])
        row = [x[2:3, 1:2] for x in (family.observe(batch), *results)]
        for x, y in zip(row, (family.observe(single), *expected), strict=True):
            if x.shape != y.shape or not torch.allclose(x.double(), y.double(), RTOL, ATOL):
                raise UsageError(
                    f"{family.name}: step {t + 1} of an episode is another one when other tasks "
                    "and episodes are in the batch: let no row read from another."
                )


def check_parameters(family: Family, live: tuple[str, ...] = ()) -> None:
    """Each parameter affects observations, rewards or episode ends in some task.

    Args:
        live: parameters with an effect that random actions don't show.
    """
    task = _draw(family, 4)
    before = play(family, task, episodes=12, steps=STEPS)
    for name, known in parameters(family).items():
        values = known.values if isinstance(known, Choice) else known.bounds
        if name not in live and not any(
            changed(family, task, before, name, value).any() for value in values
        ):
            raise UsageError(
                f"{family.name}: {name} changed nothing in 12 random episodes of 4 tasks: use it, "
                f"leave it out, or give live=('{name}',) if random actions don't show it."
            )


def changed(family: Family, task: Any, before: Trace, name: str, value: float) -> Tensor:
    """Whether the episodes of each task change with another value of a parameter, (N,) bool."""
    moved = task._replace(**{name: torch.full_like(getattr(task, name), value)})
    after = play(family, moved, episodes=before.rew.shape[2], steps=len(before.rew))
    differ = [(x != y).movedim(1, 0).flatten(1).any(1) for x, y in zip(before, after, strict=True)]
    return torch.stack(differ).any(0)


def check_first_observation(family: Family, visible: tuple[str, ...] = ()) -> None:
    """The first observation doesn't predict any hidden parameter.

    Args:
        visible: parameters that it may reveal.
    """
    for name, share in readable(family).items():
        if name not in visible:
            raise UsageError(
                f"{family.name}: the first observation shows {name} ({share:.0%} of its variance): "
                f"hide it, or give visible=('{name}',) if the agent may see it."
            )


def _draw(family: Family, n: int) -> Any:
    return sample_tasks(family, n, torch.Generator().manual_seed(0))
