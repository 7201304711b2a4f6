"""Collecting complete episodes of many tasks in one loop over time."""

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

MOST = 2**25  # random numbers drawn at once if all episodes may end before the horizon
SOME = 2**20  # random numbers per chunk otherwise
COPIES = 3  # peak copies of the collected data while chunks are concatenated
NOTES = ("diverged", "success")  # attributes (N, B) that a simulator may have after all episodes


class Rollout(NamedTuple):
    """B complete episodes of at most T steps in each of N tasks.

    The padding after the end of an episode is 0, so that it can't introduce NaNs.
    """

    obs: Tensor  # (N, T, B, *obs) before acting; T is the horizon, or the longest episode's length
    act: Tensor  # (N, T, B, A) or (N, T, B), before the environment clips it
    logp: Tensor  # (N, T, B) log pi(act | obs) in nats when collected; constant
    rew: Tensor  # (N, T, B)
    mask: Tensor  # (N, T, B) 1.0 through an episode's last step, then 0.0
    dist: Distribution  # (N, T, B, ...) distributions the actions were sampled from
    notes: dict[str, Tensor] = {}  # noqa: RUF012  # (N, B) each: `NOTES` the simulator provides

    def episode_return(self) -> Tensor:
        """Undiscounted return of each episode, (N, B)."""
        return self.rew.sum(dim=1)

    def __repr__(self) -> str:
        n, t, b = self.rew.shape
        return f"Rollout({n} tasks x {b} episodes, {t} steps at most, obs {(*self.obs.shape[3:],)})"


class Last(NamedTuple):
    """Action and reward of the previous step."""

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
    """Collect complete episodes with a feedforward policy.

    Args:
        params: weights (...) shared by all tasks, or (N, ...) one set per task.
    """
    actor = partial(feedforward_actor, policy, params)
    programs = is_compiling() and not hasattr(family, "simulate")
    return collect_by(actor, family, task, episodes, gen, programs, deterministic)


def feedforward_actor(
    policy: nn.Module, params: Params, obs: Tensor, last: Last | None
) -> Distribution:
    """Action distribution at the current observation; the previous step is ignored."""
    if last is None:
        return act_dist(policy, params, obs)
    # The first step has checked that no weight is missing, so later steps skip the check.
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
    """Collect `episodes` complete episodes of each task; episodes don't restart.

    Args:
        actor: called once per step, in order; its result is ignored for ended episodes.
        gen: on the tasks' device; None uses torch's global generator.
        programs: compile steps of a tensor family; requires a stateless actor.
        deterministic: take the most likely action at each step. Action noise is still drawn, so
            that the noise of the environments is the same as with sampled actions.
    """
    if not hasattr(family, "simulate") and task[0].device.type == "cpu":
        _check_whole(family, len(task[0]), episodes)
    simulator = simulate(family, task, episodes, gen)
    obs = simulator.reset()
    dist = actor(obs, None)
    mask = torch.ones(obs.shape[:2], dtype=torch.bool, device=obs.device)
    noise = _draw(dist, family.horizon, gen, hasattr(simulator, "over"), programs)
    obs, mask, last, part = rollout_chunk(
        actor, simulator, obs, dist, mask, next(noise), deterministic
    )
    parts = [part]
    for chunk in noise:
        if getattr(simulator, "over", False):
            break
        _check_room(family, parts, len(chunk))
        obs, mask, last, part = continue_rollout(
            actor, simulator, obs, last, mask, chunk, deterministic
        )
        parts.append(part)
    if len(parts) > 1:
        parts = [[torch.cat(x, dim=1) for x in zip(*parts, strict=True)]]
    obs, act, rew, mask, numbers = parts[0]

    def valid(x: Tensor) -> Tensor:
        return x.masked_fill(~mask.view(*mask.shape, *(1,) * (x.dim() - 3)), 0)

    obs, act, rew, numbers = valid(obs), valid(act), valid(rew), valid(numbers)
    dist = dist._replace(**{dist._fields[0]: numbers})
    if isinstance(dist, Gaussian) and dist.log_std.dim() == 3:
        dist = Gaussian(numbers, dist.log_std.unsqueeze(1))
    notes = {k: getattr(simulator, k).to(rew.dtype) for k in NOTES if hasattr(simulator, k)}
    return Rollout(obs, act, valid(dist.log_prob(act)), rew, mask.to(rew.dtype), dist, notes)


def _draw(
    dist: Distribution, horizon: int, gen: torch.Generator | None, may_end: bool, programs: bool
) -> Iterator[Tensor]:
    """Yield action noise (S, N, B, ...) for S steps at a time, up to the horizon.

    The noise is usually drawn in one call. If episodes may end early and the horizon is large, it
    is drawn in chunks instead, so that steps that are never reached take no memory.
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
    return 4 * (obs + heads + 3) + act  # 3: logp, rew, mask


def _check_whole(family: Family, n: int, episodes: int) -> None:
    """Raise RunError if a rollout as long as the horizon would not fit into memory.

    Steps and their noise are held twice while they are stacked.
    """
    each = 2 * (bytes_of_step(family) + 4 * int(family.step_noise))
    needed, free = n * episodes * family.horizon * each, free_memory()
    if needed > free:
        raise RunError(
            f"{family.name}: {n} tasks x {episodes} episodes of {family.horizon} steps need "
            f"{in_bytes(needed)} of memory, but {in_bytes(free)} are free: give fewer --episodes "
            "or --tasks, or train with a smaller --task-chunk."
        )


def _check_room(family: Family, parts: list[list[Tensor]], more: int) -> None:
    """Raise RunError if a rollout with `more` steps would not fit into memory.

    All episodes are padded to the longest, so a single long one may exhaust the memory.
    """
    if parts[0][0].device.type != "cpu":  # the GPU allocator raises by itself
        return
    steps = sum(part[0].shape[1] for part in parts)
    size = sum(x.nbytes for part in parts for x in part)
    needed, free = COPIES * size * (steps + more) // steps, free_memory() + size
    if needed > free:
        n, _, b = parts[0][0].shape[:3]
        raise RunError(
            f"{family.name}: {n} tasks x {b} episodes, the longest of more than {steps} steps, "
            f"need {in_bytes(needed)} of memory, but {in_bytes(free)} are free: give a lower time "
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
    """Run one step for each row of noise (S, ...), starting at `obs` and its distribution.

    Returns:
        Next obs, mask and last step; and obs, act, rew, mask and the distribution's first field of
        all steps, (N, S, B, ...).
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
        if getattr(simulator, "over", False):  # a host value; further steps would be padding
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
    """Run `rollout_chunk` after an earlier chunk."""
    return rollout_chunk(actor, simulator, obs, actor(obs, last), mask, noise, deterministic)


def check_finite(family: Family, task: Any, rollout: Rollout) -> None:
    """Raise RunError with the task, episode and step of a family's first NaN or infinity.

    Values that follow a non-finite output of the policy are the agent's fault and are ignored.
    """
    agent = _first_bad(rollout.dist[0]).minimum(_first_bad(rollout.act))
    for what, x, last in (("observation", rollout.obs, 0), ("reward", rollout.rew, -1)):
        first = _first_bad(x)
        bad = ((first < x.shape[1]) & (first <= agent + last)).nonzero()
        if len(bad):
            n, b = bad[first[bad.unbind(-1)].argmin()].tolist()
            t = int(first[n, b])
            number = next(v for v in x[n, t, b].flatten().tolist() if not math.isfinite(v))
            values = describe(family, task_values(task)[n])
            raise RunError(
                f"{family.name}: {what} is {number} at step {t} of episode {b} with {values}: "
                "make the family finite there, or narrow its ranges."
            )


def _first_bad(x: Tensor) -> Tensor:
    """First non-finite step of each episode of x (N, T, B, ...), T if there is none; (N, B)."""
    bad = ~x.flatten(3).isfinite().all(-1) if x.dim() > 3 else ~x.isfinite()
    return torch.where(bad.any(1), bad.int().argmax(1), x.shape[1])
