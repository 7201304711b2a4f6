"""Simulates MuJoCo bodies of N tasks x B episodes in C threads."""

from __future__ import annotations

import copy
import importlib.resources
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.envs.core.host_to_device import to_agent
from metarl.envs.core.optional_packages import need
from metarl.envs.mujoco.steppers import Rolls, Threads

Array = np.ndarray[Any, Any]
PICTURE = (240, 320)  # pixels, rows and columns


class Body(NamedTuple):
    """A MuJoCo body of Gymnasium and the distribution of its initial states."""

    environment: str  # Gymnasium id
    xml: str
    frame_skip: int  # MuJoCo steps per environment step
    dt: float  # s per environment step
    observes: int  # size of the observation
    acts: int  # number of torques
    reach: float  # bound of the torque commands
    noise: float  # scale of the initial noise of positions (uniform) and speeds
    normal_speeds: bool  # normal instead of uniform noise of speeds
    hides: int  # leading positions that are not observed
    eye: float  # m, distance of the camera
    speed_limit: float = float("inf")  # bound that observed speeds are clipped to, rad/s or m/s
    forces: bool = False  # whether rewards need contact forces


class Physics(NamedTuple):
    """B episodes of each of N tasks, float64, on the CPU."""

    qpos: Tensor  # (N, B, nq) m and rad
    qvel: Tensor  # (N, B, nv) m/s and rad/s
    centers: Tensor  # (N, B, bodies, 3) m, centers of mass; no bodies unless rewards need forces
    contact: Tensor  # (N, B, bodies, 6) N m and N, external wrench on each body; likewise


@lru_cache
def load(xml: str) -> Any:
    """Gymnasium's model, cached; copy it before modifying it."""
    import mujoco

    path = importlib.resources.files("gymnasium.envs").joinpath("mujoco", "assets", xml)
    return mujoco.MjModel.from_xml_path(str(path))


@lru_cache
def can_draw() -> bool:
    """Whether OpenGL rendering is available."""
    import mujoco

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a missing window system
        try:
            context = mujoco.GLContext(8, 8)
            context.make_current()
            mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), 0).free()
            context.free()
        except Exception:  # whatever a graphics driver may raise
            return False
    return True


def refresh(model: Any) -> None:
    """Recompute constants that MuJoCo derives from the model, such as total masses."""
    import mujoco

    mujoco.mj_setConst(model, mujoco.MjData(model))


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress MuJoCo's warnings, which go to stdout and a log file in the working directory."""
    import mujoco

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


class MujocoSimulator:
    """Simulates a locomotion family. Ended episodes aren't stepped.

    If the simulation becomes unstable, the episode terminates without a reward for that step and is
    marked in `diverged` (N, B).
    """

    def __init__(
        self, family: Any, task: Any, episodes: int, gen: torch.Generator | None = None
    ) -> None:
        need(family.name, "mujoco", "mujoco")
        n, self.device = len(task[0]), task[0].device
        self.family, self.shape = family, (n, episodes)
        self.task = type(task)(*(x.double().cpu() for x in task))
        models = [model for model in family.models(self.task) for _ in range(episodes)]
        body, self.model = family.body, models[0]
        kind = Threads if body.forces else Rolls
        self.batch = kind(models, body.frame_skip, family.threads or torch.get_num_threads())

        self._gen = gen
        self._first = self._draw(n, episodes)
        self._never = torch.zeros(n, episodes, dtype=torch.bool, device=self.device)

    def _draw(self, *lead: int) -> Tensor:
        """Initial states (*lead, 1 + nq + nv): time, positions, velocities."""
        body, gen = self.family.body, self._gen

        def drawn(draw: Any, size: int) -> Tensor:
            where = gen.device if gen else "cpu"
            x: Tensor = draw(*lead, size, generator=gen, dtype=torch.float64, device=where)
            return x.cpu()

        position = body.noise * (2 * drawn(torch.rand, self.model.nq) - 1)
        if body.normal_speeds:
            speed = body.noise * drawn(torch.randn, self.model.nv)
        else:
            speed = body.noise * (2 * drawn(torch.rand, self.model.nv) - 1)
        # MuJoCo resets an unstable simulation, with time 0. Starting at 1 makes this detectable.
        time = torch.ones(*lead, 1, dtype=torch.float64)
        return torch.cat((time, position + torch.from_numpy(self.model.qpos0), speed), -1)

    def reset(self) -> Tensor:
        self.state = self._first.flatten(0, 1).numpy().copy()  # (N * B, 1 + nq + nv)
        with quiet():
            self.batch.begin(np.arange(len(self.state)), self.state)
        self.physics = self._physics()
        self._ended = torch.zeros(self.shape, dtype=torch.bool)
        self._diverged = self._ended.clone()
        return self._out(self.family.observe(self.physics))

    def step(self, act: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        body, before, over = self.family.body, self.physics, self._ended
        torque = act.detach().cpu().double().clamp(-body.reach, body.reach)
        rows = np.flatnonzero(~over.numpy())
        if len(rows):
            self._advance(rows, torque.flatten(0, 1).numpy()[rows])
        after = self.physics = self._physics()
        rew = self.family.reward(before, after, torque, self.task)
        self._ended = over | self._diverged | ~self.family.healthy(after)
        rew = rew.masked_fill(over | self._diverged, 0)
        obs = self._out(self.family.observe(after))
        return obs, self._out(rew), to_agent(self._ended, self.device), self._never

    def restart(self, rows: Tensor) -> Tensor:
        """Restart k of the N * B episodes and return their observations, (k, 1, *obs)."""
        which = rows.numpy()
        self.state[which] = self._draw(len(rows)).numpy()
        with quiet():
            self.batch.begin(which, self.state[which])
        for ended in (self._ended, self._diverged):
            ended.view(-1)[rows] = False
        self.physics = self._physics()
        return self._out(self.family.observe(self.physics)).flatten(0, 1)[rows].unsqueeze(1)

    @property
    def over(self) -> bool:
        """Whether all episodes have ended."""
        return bool(self._ended.all())

    @property
    def diverged(self) -> Tensor:
        """Episodes that ended because the simulation became unstable, (N, B) bool."""
        return self._diverged.to(self.device)

    def frame(self) -> Array:
        """Image (H, W, 3) uint8 of the first episode of the first task."""
        import mujoco

        if not hasattr(self, "_renderer"):
            self._renderer = mujoco.Renderer(self.model, *PICTURE)
            self._drawn, self._camera = mujoco.MjData(self.model), mujoco.MjvCamera()
            self._camera.distance = self.family.body.eye
            self._camera.azimuth, self._camera.elevation = 90, -14
        self._drawn.qpos[:] = self.physics.qpos[0, 0]
        mujoco.mj_forward(self.model, self._drawn)
        self._camera.lookat[:] = self._drawn.subtree_com[1]
        self._renderer.update_scene(self._drawn, self._camera)
        picture: Array = self._renderer.render()
        return picture

    def _advance(self, rows: Array, control: Array) -> None:
        """Step these episodes; those whose simulation becomes unstable keep their state."""
        body, start = self.family.body, self.state[rows]
        with quiet():
            stop = self.batch.advance(rows, start, control)
        earliest = start[:, 0] + (body.frame_skip - 0.5) * self.model.opt.timestep
        stable = (stop[:, 0] > earliest) & np.isfinite(stop).all(1) & np.isfinite(control).all(1)
        self.state[rows[stable]] = stop[stable]
        self._diverged.view(-1)[rows[~stable]] = True

    def _physics(self) -> Physics:
        """The current physics, copied since the batch reuses its memory."""

        def copied(x: Array) -> Tensor:
            return torch.from_numpy(x.copy()).view(*self.shape, *x.shape[1:])

        state, nq = copied(self.state), self.model.nq
        contact = copied(self.batch.contact).nan_to_num(0, 0, 0)
        centers = copied(self.batch.centers).nan_to_num(0, 0, 0)
        return Physics(state[..., 1 : 1 + nq], state[..., 1 + nq :], centers, contact)

    def _out(self, x: Tensor) -> Tensor:
        return to_agent(x.to(torch.float32), self.device)


def variants(xml: str, values: list[dict[str, float]], shape: Any) -> list[Any]:
    """A copy of the model for each task, modified by `shape(model, values)`."""
    models = []
    for task in values:
        model = copy.deepcopy(load(xml))
        shape(model, task)
        refresh(model)
        models.append(model)
    return models
