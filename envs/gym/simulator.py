"""Simulates N tasks x B episodes of a Gymnasium environment in worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor

from metarl.envs.core.errors import RunError
from metarl.envs.core.family import describe, task_values
from metarl.envs.core.host_to_device import to_agent
from metarl.envs.gym.worker_envs import Failure, Field
from metarl.envs.gym.worker_pool import Pool, Question, WorkerDied


class MultiprocessFamily(Protocol):
    """The interface of families that `MultiprocessSimulator` uses."""

    name: str
    exact_replay: bool

    @property
    def observation_space(self) -> Box: ...

    @property
    def action_space(self) -> Box | Discrete | MultiDiscrete: ...

    @property
    def success(self) -> bool: ...

    @property
    def agreed(self) -> Any: ...

    def settings(self, values: dict[str, float]) -> Any: ...


class MultiprocessSimulator:
    """Runs episodes in W workers; episode i runs in worker i mod W, which balances long episodes.

    A worker that dies or hangs is replaced once per rollout, and its episodes are replayed from
    their seeds with the recorded actions. Without exact replay it is replaced only before the first
    step, since its episodes can't be reproduced.

    Attributes:
        diverged: (N, B) episodes that ended because an observation or reward wasn't finite.
        success: (N, B) 1 if any step reported success; absent if the environment never does.
    """

    def __init__(
        self,
        family: MultiprocessFamily,
        pool: Pool,
        task: Any,
        episodes: int,
        gen: torch.Generator | None,
        render: bool,
    ) -> None:
        self._family, self._pool, self._render = family, pool, render
        self._gen, self._autoreset = gen, False
        self._values = task_values(task)
        self._shape, self._device = (len(self._values), episodes), task[0].device
        self._settings = [family.settings(v) for v in self._values]
        self._seeds = self._draw(*self._shape)
        self._active = np.ones(len(self._seeds), bool)
        self._history: list[tuple[list[int], np.ndarray[Any, Any]]] = []
        self._replaced: set[int] = set()
        self.diverged = torch.zeros(self._shape, dtype=torch.bool, device=self._device)
        if family.success:
            self.success = torch.zeros(self._shape, device=self._device)
        if "obs" not in pool.shared or len(pool.shared["obs"]) < len(self._seeds):
            with self._reporting_errors():
                pool.share(_fields(family, len(self._seeds)))

    @property
    def over(self) -> bool:
        """Whether every episode has ended."""
        return not self._active.any()

    def reset(self) -> Tensor:
        """First observations, (N, B, *obs)."""
        self._ask(self._start, range(len(self._seeds)))
        self._last_obs = self._pool.shared["obs"][: len(self._seeds)].copy()
        return self._tensor(self._last_obs)

    def step(self, act: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Next obs, rew, terminated, truncated; ended episodes aren't stepped."""
        size = len(self._seeds)
        active = np.flatnonzero(self._active).tolist()
        acts = act.flatten(0, 1).cpu().numpy()
        self._pool.shared["act"][:size] = acts
        self._ask(lambda slots: ("step", (slots,)), active)
        if not self._autoreset:
            self._history.append((active, acts))
        names = ("obs", "rew", "terminated", "truncated")
        obs, rew, terminated, truncated = (self._pool.shared[k][:size] for k in names)
        bad = self._active & ~(np.isfinite(rew) & np.isfinite(obs).reshape(size, -1).all(1))
        obs[bad], rew[bad], terminated[bad] = 0, 0, True
        obs, terminated, truncated = obs.copy(), terminated.copy(), truncated.copy()
        self.diverged |= self._tensor(bad)
        if self._family.success:
            self.success = self._tensor(self._pool.shared["success"][:size].copy())
        self._active &= ~(terminated | truncated)
        self._last_obs = obs
        rew = rew.astype(np.float32)
        return tuple(self._tensor(x) for x in (obs, rew, terminated, truncated))  # type: ignore[return-value]

    def restart(self, rows: Tensor) -> Tensor:
        """Restart k of the N * B episodes and return their observations, (k, 1, *obs).

        From then on dead workers can't be replaced, since actions aren't recorded with autoreset.
        """
        self._autoreset, self._history = True, []
        for i, seed in zip(rows.tolist(), self._draw(len(rows)), strict=True):
            self._seeds[i] = seed
        self._ask(lambda slots: ("restart", self._starts(slots)), rows.tolist())
        self._active[rows] = True
        self.diverged.view(-1)[rows] = False
        return torch.from_numpy(self._pool.shared["obs"][rows.numpy()]).unsqueeze(1)

    def _draw(self, *lead: int) -> list[int]:
        """Draw seeds of episodes."""
        high = torch.iinfo(torch.int32).max
        seeds = torch.randint(high, lead, generator=self._gen, device=self._device)
        numbers: list[int] = seeds.flatten().tolist()
        return numbers

    def _tensor(self, x: np.ndarray[Any, Any]) -> Tensor:
        flat = to_agent(torch.from_numpy(x), self._device)
        return flat.view(*self._shape, *flat.shape[1:])

    def frame(self) -> Any:
        """Image (H, W, 3) uint8 of the first episode."""
        with self._reporting_errors():
            return self._pool.ask({0: ("frame", (0,))})[0]

    def _start(self, slots: list[int]) -> Question:
        return "reset", (*self._starts(slots), self._family.agreed, self._render)

    def _starts(self, slots: list[int]) -> tuple[Any, ...]:
        """Slots with the settings and seeds of their episodes."""
        settings = [self._settings[i // self._shape[1]] for i in slots]
        return slots, settings, [self._seeds[i] for i in slots]

    def _ask(self, question: Any, slots: Any) -> None:
        """Send the question for these slots to the workers that run them."""
        count = self._pool.count
        slots_of = {w: [i for i in slots if i % count == w] for w in range(count)}
        with self._reporting_errors():
            _, died = self._pool.try_to_ask({w: question(s) for w, s in slots_of.items() if s})
            for w, error in died.items():
                self._replay(w, error)
                self._pool.ask({w: question(slots_of[w])})

    @contextmanager
    def _reporting_errors(self) -> Iterator[None]:
        """Report failures of workers as a one-line RunError, after closing the pool."""
        try:
            yield
        except Failure as failure:
            self._raise_failure(failure.slot, str(failure))
        except WorkerDied as error:
            twice = ", and again after it was replaced" if self._replaced else ""
            self._raise_failure(error.slot, f"{error}{twice}")
        except BaseException:  # after Ctrl-C during an answer the pipes are out of step
            self._pool.close()
            raise

    def _replay(self, w: int, error: WorkerDied) -> None:
        """Replace worker w and replay its episodes up to the current step."""
        if w in self._replaced or self._autoreset:
            raise error
        if self._history and not self._family.exact_replay:
            self._raise_failure(
                error.slot, f"{error}, and with --no-exact-replay episodes aren't replayed"
            )
        self._replaced.add(w)
        shared = self._pool.shared
        mine = [i for i in range(len(self._seeds)) if i % self._pool.count == w]
        acts = shared["act"][mine].copy()
        self._pool.restart(w)
        self._pool.ask({w: self._start(mine)})
        for active, past_acts in self._history:
            stepped = set(active)
            if slots := [i for i in mine if i in stepped]:
                shared["act"][slots] = past_acts[slots]
                self._pool.ask({w: ("step", (slots,))})
        still = [i for i in mine if self._active[i]]
        if self._history and not np.array_equal(shared["obs"][still], self._last_obs[still]):
            self._raise_failure(error.slot, f"{error}, and its episodes can't be reproduced")
        shared["act"][mine] = acts

    def _raise_failure(self, slot: int, what: str) -> NoReturn:
        self._pool.close()
        where = ""
        if 0 <= slot < len(self._seeds):
            variant = describe(self._family, self._values[slot // self._shape[1]])
            step = "" if self._autoreset else f"step {len(self._history)} of "
            where = (
                f"{step}episode {slot % self._shape[1]}, seed {self._seeds[slot]}, with {variant}: "
            )
        raise RunError(
            f"{self._family.name}: {where}{what}: replay it in the environment that "
            "family.make_env(...) returns, and fix it or narrow the ranges."
        )


def _fields(family: MultiprocessFamily, size: int) -> dict[str, Field]:
    """Arrays that the workers and the simulator share for `size` episodes."""
    obs, acts = family.observation_space, family.action_space
    act = Field((size, *(acts.shape or ())), "float32" if isinstance(acts, Box) else "int64")
    return {
        "obs": Field((size, *obs.shape), str(obs.dtype)),
        "act": act,
        "rew": Field((size,), "float64"),
        "terminated": Field((size,), "bool"),
        "truncated": Field((size,), "bool"),
        "success": Field((size,), "float32"),
    }
