"""Whole episodes of many tasks, collected in one loop over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from gymnasium.spaces import Box
from torch import Tensor, nn
from torch.func import functional_call

from metarl.agents.compilation import STEPS, is_compiling, may_compile
from metarl.agents.networks.distributions import Distribution, Gaussian
from metarl.agents.networks.policy import Params, act_dist
from metarl.envs import Family, RunError, describe, simulate, task_values
from metarl.envs.core.free_memory import free_memory, in_bytes

MOST = 2**25  # random numbers that are drawn at once, where episodes may all end before the horizon
SOME = 2**20  # else so many at a time
COPIES = 3  # of what was played, while it is put together
NOTES = ("diverged", "success")  # what a simulator may know of each episode when all have ended


class Rollout(NamedTuple):
    """B whole episodes of T steps in each of N tasks.

    After an episode's end everything is 0, so that no padding can leak in as a NaN.
    """

    obs: Tensor  # (N, T, B, *obs) seen before acting; T is the horizon, or where all were over
    act: Tensor  # (N, T, B, A) or (N, T, B), before the environment clips it
    logp: Tensor  # (N, T, B) log pi(act | obs) in nats when collected; constant
    rew: Tensor  # (N, T, B)
    mask: Tensor  # (N, T, B) 1.0 up to and with an episode's last step, then 0.0
    dist: Distribution  # what the actions were drawn from, axes (N, T, B, ...)
    notes: dict[str, Tensor] = {}  # noqa: RUF012  # (N, B) each: `NOTES` that the simulator keeps

    def episode_return(self) -> Tensor:
        """Undiscounted return of each episode, (N, B)."""
        return self.rew.sum(dim=1)

    def __repr__(self) -> str:
        n, t, b = self.rew.shape
        return f"Rollout({n} tasks x {b} episodes, {t} steps at most, obs {(*self.obs.shape[3:],)})"


class Last(NamedTuple):
    """What was done in the step before, and what it brought."""

    act: Tensor  # (N, B, A) or (N, B)
    rew: Tensor  # (N, B)


Actor = Callable[[Tensor, Last | None], Distribution]  # obs (N, B, *obs), None at the first step


def collect(
    policy: nn.Module,
    params: Params,
    family: Family,
    task: Any,
    episodes: int,
    gen: torch.Generator | None = None,
    deterministic: bool = False,
) -> Rollout:
    """Play with a policy that sees nothing but the present observation.

    Args:
        params: weights (...) shared by all tasks, or (N, ...) one set for each.
    """
    actor = partial(feedforward_actor, policy, params)
    programs = is_compiling() and not hasattr(family, "simulate")
    return collect_by(actor, family, task, episodes, gen, programs, deterministic)


def feedforward_actor(
    policy: nn.Module, params: Params, obs: Tensor, last: Last | None
) -> Distribution:
    """The answer to the present observation, whatever came before."""
    if last is None:
        return act_dist(policy, params, obs)
    # At every further step without looking again whether all weights are there.
    dist: Distribution = functional_call(policy, params, (obs,), tie_weights=False)
    return dist


@torch.no_grad()
def collect_by(
    actor: Actor,
    family: Family,
    task: Any,
    episodes: int,
    gen: torch.Generator | None = None,
    programs: bool = False,
    deterministic: bool = False,
) -> Rollout:
    """Play `episodes` whole episodes in each task; no episode restarts, so there are no seams.

    Args:
        actor: called once a step, in order; where an episode is over its answer doesn't matter.
        gen: on the tasks' device; None draws from torch's own stream.
        programs: compile steps of a tensor family, for an actor without a state of its own.
        deterministic: take the most likely action at each step. As many random numbers are drawn,
            so that chance in the environments is the same as with sampled actions.
    """
    if not hasattr(family, "simulate") and task[0].device.type == "cpu":
        _check_whole(family, len(task[0]), episodes)
    simulator = simulate(family, task, episodes, gen)
    obs = simulator.reset()
    dist = actor(obs, None)
    mask = torch.ones(obs.shape[:2], dtype=torch.bool, device=obs.device)
    noise = _draw(dist, family.horizon, gen, hasattr(simulator, "over"), programs)
    obs, mask, last, played = rollout_chunk(
        actor, simulator, obs, dist, mask, next(noise), deterministic
    )
    parts = [played]
    for some in noise:
        if getattr(simulator, "over", False):
            break
        _check_room(family, parts, len(some))
        obs, mask, last, played = continue_rollout(
            actor, simulator, obs, last, mask, some, deterministic
        )
        parts.append(played)
    if len(parts) > 1:
        parts = [[torch.cat(x, dim=1) for x in zip(*parts, strict=True)]]
    obs, act, rew, mask, numbers = parts[0]

    def valid(x: Tensor) -> Tensor:
        return x.masked_fill(~mask.view(*mask.shape, *(1,) * (x.dim() - 3)), 0)

    obs, act, rew, numbers = valid(obs), valid(act), valid(rew), valid(numbers)
    whole = dist._replace(**{dist._fields[0]: numbers})
    if isinstance(whole, Gaussian) and whole.log_std.dim() == 3:
        whole = Gaussian(numbers, whole.log_std.unsqueeze(1))
    notes = {k: getattr(simulator, k).to(rew.dtype) for k in NOTES if hasattr(simulator, k)}
    return Rollout(obs, act, valid(whole.log_prob(act)), rew, mask.to(rew.dtype), whole, notes)


def _draw(
    dist: Distribution, horizon: int, gen: torch.Generator | None, may_end: bool, programs: bool
) -> Iterator[Tensor]:
    """Noise of all steps in turn, several at a time, (S, N, B, ...).

    All of it is drawn in one call. But a time limit that is never reached would take memory for
    steps that nobody plays: where episodes may end before it and it is large, noise is drawn as
    they go on.
    """
    row = (dist.mean if isinstance(dist, Gaussian) else dist.logits[..., :1]).numel()
    if may_end and horizon * row > MOST:
        size = max(SOME // row, 1)
        for done in range(0, horizon, size):
            yield dist.noise(min(size, horizon - done), gen=gen)
    else:
        yield from dist.noise(horizon, gen=gen).split(STEPS if programs else horizon)


def bytes_of_step(family: Family) -> int:
    """Bytes of one step of one episode in a `Rollout` of a tensor family."""
    obs, acts = math.prod(family.observation_space.shape or ()), family.action_space
    act = 4 * math.prod(acts.shape or ()) if isinstance(acts, Box) else 8
    heads = math.prod(acts.shape or ()) if isinstance(acts, Box) else int(getattr(acts, "n", 1))
    return 4 * (obs + heads + 3) + act  # and logp, rew, alive


def _check_whole(family: Family, n: int, episodes: int) -> None:
    """Raise RunError if a rollout that is as long as the horizon would not fit into memory.

    Each step is there twice, as it is put together, and so is the noise that was drawn for it.
    """
    each = 2 * (bytes_of_step(family) + 4 * int(family.step_noise))
    wanted, free = n * episodes * family.horizon * each, free_memory()
    if wanted > free:
        raise RunError(
            f"{family.name}: {n} tasks x {episodes} episodes of {family.horizon} steps take "
            f"{in_bytes(wanted)} of memory, and {in_bytes(free)} are free: give fewer --episodes "
            "or --tasks, or train with a smaller --task-chunk."
        )


def _check_room(family: Family, parts: list[list[Tensor]], more: int) -> None:
    """Raise RunError if a rollout with some more steps would not fit into memory.

    All episodes are padded to the longest, so that a single one may be what takes the room.
    """
    if parts[0][0].device.type != "cpu":  # its own allocator says so
        return
    steps = sum(part[0].shape[1] for part in parts)
    size = sum(x.nbytes for part in parts for x in part)
    wanted, free = COPIES * size * (steps + more) // steps, free_memory() + size
    if wanted > free:
        n, _, b = parts[0][0].shape[:3]
        raise RunError(
            f"{family.name}: {n} tasks x {b} episodes, the longest of more than {steps} steps, "
            f"take {in_bytes(wanted)} of memory, and {in_bytes(free)} are free: give a lower time "
            "limit (--set max_episode_steps), fewer --episodes, or a smaller --task-chunk."
        )


def rollout_chunk(
    actor: Actor,
    simulator: Any,
    obs: Tensor,
    dist: Distribution,
    mask: Tensor,
    noise: Tensor,
    deterministic: bool = False,
) -> tuple[Tensor, Tensor, Last | None, list[Tensor]]:
    """A step for each row of noise (S, ...), from what is seen and the answer to it.

    Returns: the next obs, who is alive, the last step; and of all steps obs, act, rew, alive, and
        the distribution's first field, (N, S, B, ...).
    """
    last: Last | None = None
    steps: list[tuple[Tensor, ...]] = []
    for one in noise.unbind():
        if last is not None:
            dist = actor(obs, last)
        act = dist.mode() if deterministic else dist.sample(one)
        nxt, rew, terminated, truncated = simulator.step(act)
        steps.append((obs, act, rew, mask, dist[0]))
        obs, mask, last = nxt, mask & ~(terminated | truncated), Last(act, rew)
        if getattr(simulator, "over", False):  # known on the host: the rest would be padding
            break
    return obs, mask, last, [torch.stack(x, dim=1) for x in zip(*steps, strict=True)]


@may_compile
def continue_rollout(
    actor: Actor,
    simulator: Any,
    obs: Tensor,
    last: Last | None,
    mask: Tensor,
    noise: Tensor,
    deterministic: bool = False,
) -> tuple[Tensor, Tensor, Last | None, list[Tensor]]:
    """`rollout_chunk` that go on after others."""
    return rollout_chunk(actor, simulator, obs, actor(obs, last), mask, noise, deterministic)


def check_finite(family: Family, task: Any, rollout: Rollout) -> None:
    """Raise RunError that names task, step and episode of the first NaN or infinity of a family.

    Numbers that went bad after the policy's own output did are the agent's fault, not the family's.
    """
    agent = _first_bad(rollout.dist[0]).minimum(_first_bad(rollout.act))
    for what, x, last in (("observation", rollout.obs, 0), ("reward", rollout.rew, -1)):
        first = _first_bad(x)
        blamed = ((first < x.shape[1]) & (first <= agent + last)).nonzero()
        if len(blamed):
            n, b = blamed[first[blamed.unbind(-1)].argmin()].tolist()
            t = int(first[n, b])
            number = next(v for v in x[n, t, b].flatten().tolist() if not math.isfinite(v))
            values = describe(family, task_values(task)[n])
            raise RunError(
                f"{family.name}: {what} is {number} at step {t} of episode {b} with {values}: "
                "make the family finite there, or narrow its ranges."
            )


def _first_bad(x: Tensor) -> Tensor:
    """First step at which each episode of x (N, T, B, ...) is not finite, T where none; (N, B)."""
    bad = ~x.flatten(3).isfinite().all(-1) if x.dim() > 3 else ~x.isfinite()
    return torch.where(bad.any(1), bad.int().argmax(1), x.shape[1])
