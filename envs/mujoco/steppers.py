"""Two ways to step many MuJoCo bodies at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Rolls:
    """`mujoco.rollout`: no Python between the steps, so any number of threads is of use.

    It can't carry the constraint solver's last solution over; the solver finds the same one anew,
    to about 1e-13 of what Gymnasium gets.
    """

    def __init__(self, models: list[Any], frame_skip: int, threads: int) -> None:
        import mujoco.rollout

        self.models, self.frame_skip = models, frame_skip
        self.data = [mujoco.MjData(models[0]) for _ in range(threads)]
        self.pool = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
        size = 1 + models[0].nq + models[0].nv
        self.out = np.empty((len(models), frame_skip, size))
        self.control = np.empty((len(models), frame_skip, models[0].nu))
        self.centres = np.empty((len(models), 0, 3))
        self.contact = np.empty((len(models), 0, 6))

    def begin(self, rows: Array, state: Array) -> None:
        """Nothing is kept from step to step."""

    def advance(self, rows: Array, state: Array, control: Array) -> Array:
        """States (k, 1 + nq + nv) of these episodes after the torques of `control` (k, nu)."""
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
    """Python threads, each with a simulation that it lends to one episode after another.

    For rewards of contact forces, which `mujoco.rollout` doesn't give. MuJoCo lets go of Python's
    lock while it computes. As in Gymnasium, the solver starts from its last solution, and forces
    and centres of mass are those that the last step of MuJoCo has left behind.
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
        self.centres = np.zeros((len(models), models[0].nbody, 3))
        self.contact = np.zeros((len(models), models[0].nbody, 6))

    def begin(self, rows: Array, state: Array) -> None:
        """Solve the first positions, for the solver's start and for the centres of mass.

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
            self.centres[i] = self.data[0].xipos

    def advance(self, rows: Array, state: Array, control: Array) -> Array:
        """As `Rolls.advance`."""
        self.memory[rows, : state.shape[1]] = state
        self.memory[rows, -control.shape[1] :] = control
        chunks = iter(np.array_split(rows, 8 * len(self.data)))  # whoever is free takes the next
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
                self.centres[i], self.contact[i] = data.xipos, data.cfrc_ext
