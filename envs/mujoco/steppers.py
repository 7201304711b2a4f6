"""Two ways to step many MuJoCo simulations in parallel."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Rolls:
    """Steps with `mujoco.rollout`, which runs no Python between steps and scales with threads.

    It can't warm-start the constraint solver with the last solution. The solver still converges to
    the same solution, within about 1e-13 of Gymnasium's.
    """

    def __init__(self, models: list[Any], frame_skip: int, threads: int) -> None:
        import mujoco.rollout

        self.models, self.frame_skip = models, frame_skip
        self.data = [mujoco.MjData(models[0]) for _ in range(threads)]
        self.pool = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
        size = 1 + models[0].nq + models[0].nv
        self.out = np.empty((len(models), frame_skip, size))
        self.control = np.empty((len(models), frame_skip, models[0].nu))
        self.centers = np.empty((len(models), 0, 3))
        self.contact = np.empty((len(models), 0, 6))

    def begin(self, rows: Array, state: Array) -> None:
        """Do nothing, since no state is kept between steps."""

    def advance(self, rows: Array, state: Array, control: Array) -> Array:
        """States (k, 1 + nq + nv) of these episodes after applying torques `control` (k, nu)."""
        k = len(rows)
        self.control[:k] = control[:, None]
        models = self.models if k == len(self.models) else [self.models[i] for i in rows]
        self.pool.rollout(
            models,
            self.data,
            state,
            self.control[:k],
            skip_checks=True,
            nstep=self.frame_skip,
            state=self.out[:k],
        )
        return self.out[:k, -1]


class Threads:
    """Steps in Python threads, each of which reuses one MuJoCo simulation for many episodes.

    Used for rewards that depend on contact forces, which `mujoco.rollout` doesn't return. MuJoCo
    releases the GIL while it computes. As in Gymnasium, the solver is warm-started, and forces and
    centers of mass are those left by the last MuJoCo step.
    """

    def __init__(self, models: list[Any], frame_skip: int, threads: int) -> None:
        import mujoco

        self.models, self.frame_skip = models, frame_skip
        self.data = [mujoco.MjData(models[0]) for _ in range(threads)]
        self.pool = ThreadPoolExecutor(threads)
        state = mujoco.mjtState
        self.spec = int(state.mjSTATE_FULLPHYSICS | state.mjSTATE_WARMSTART | state.mjSTATE_CTRL)
        self.memory = np.zeros((len(models), mujoco.mj_stateSize(models[0], self.spec)))
        self.rows = list(self.memory)  # views
        self.centers = np.zeros((len(models), models[0].nbody, 3))
        self.contact = np.zeros((len(models), models[0].nbody, 6))

    def begin(self, rows: Array, state: Array) -> None:
        """Compute the forward dynamics of the initial states, for warm starts and centers of mass.

        Args:
            state: (k, 1 + nq + nv) of these episodes.
        """
        import mujoco

        self.memory[rows], self.contact[rows] = 0, 0
        self.memory[rows, : state.shape[1]] = state
        for i in rows.tolist():
            row = self.rows[i]
            mujoco.mj_setState(self.models[i], self.data[0], row, self.spec)
            mujoco.mj_forward(self.models[i], self.data[0])
            mujoco.mj_getState(self.models[i], self.data[0], row, self.spec)
            self.centers[i] = self.data[0].xipos

    def advance(self, rows: Array, state: Array, control: Array) -> Array:
        """Same as `Rolls.advance`."""
        self.memory[rows, : state.shape[1]] = state
        self.memory[rows, -control.shape[1] :] = control
        chunks = iter(np.array_split(rows, 8 * len(self.data)))  # shared, so idle threads take more
        list(self.pool.map(lambda data: self._work(data, chunks), self.data))
        return self.memory[rows, : state.shape[1]]

    def _work(self, data: Any, chunks: Any) -> None:
        import mujoco

        for chunk in chunks:
            for i in chunk.tolist():
                model, row = self.models[i], self.rows[i]
                mujoco.mj_setState(model, data, row, self.spec)
                mujoco.mj_step(model, data, self.frame_skip)
                mujoco.mj_rnePostConstraint(model, data)  # computes cfrc_ext
                mujoco.mj_getState(model, data, row, self.spec)
                self.centers[i], self.contact[i] = data.xipos, data.cfrc_ext
