"""Environments that are hard on who runs them; imported by worker processes too."""

import builtins
import ctypes
import multiprocessing
import os
import subprocess
import time
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import VectorEnv

print("printed by the import")
ctypes.CDLL(None).printf(b"printed in C, and held back\n")


class Line(gymnasium.Env):
    """Walk on a line; `pull` is hidden."""

    def __init__(self, pull=0.0):
        self.pull = pull
        self.observation_space = Box(-99.0, 99.0, (1,), np.float32)
        self.action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t = 0.0, 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.x, self.t = float(np.clip(self.x + self.pull + action, -99, 99)), self.t + 1
        return np.array([self.x], np.float32), self.x, False, False, {}


class Large(Line):
    """Shows a picture of 200 kB."""

    def __init__(self, pull=0.0):
        super().__init__(pull)
        self.observation_space = Box(0, 255, (450, 450, 1), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros((450, 450, 1), np.uint8), {}

    def step(self, action):
        _, *rest = super().step(action)
        return np.zeros((450, 450, 1), np.uint8), *rest


class Own(Line):
    """Ends after 7 steps, which its spec knows nothing of."""

    def step(self, action):
        obs, rew, terminated, _, info = super().step(action)
        return obs, rew, terminated, self.t >= 7, info


class Endless(Own):
    max_steps = float("inf")


class Method(Own):
    def max_steps(self):
        return 7


class Noisy(Line):
    """Has noise that nobody can seed."""

    def step(self, action):
        obs, rew, *rest = super().step(action)
        return obs, rew + os.urandom(1)[0] / 255, *rest


class Chatter(Line):
    """Prints wherever it can, in Python and past it."""

    def __init__(self, pull=0.0):
        print("printed by the constructor")
        super().__init__(pull)

    def reset(self, *, seed=None, options=None):
        os.write(1, b"written by reset\n")
        ctypes.CDLL(None).puts(b"put by reset")
        return super().reset(seed=seed)


class Fails(Line):
    """Raises `what`, or hangs, `where`: in reset, step or close, with large seeds alone or not."""

    def __init__(self, pull=0.0, where="step", what="ValueError", checked=True):
        super().__init__(pull)
        self.where, self.what, self.checked = where, what, checked
        self._fail("make")

    def reset(self, *, seed=None, options=None):
        self.seed = seed
        self._fail("reset")
        return super().reset(seed=seed)

    def step(self, action):
        self._fail("step")
        return super().step(action)

    def close(self):
        self._fail("close")

    def _fail(self, where):
        if where != self.where or (not self.checked and getattr(self, "seed", 0) < 1000):
            return
        if self.what == "hang":
            time.sleep(600)
        raise getattr(builtins, self.what)("no such\nthing")


def wait_for_numbers(pipe):
    while True:
        pipe.send(pipe.recv() + 1)


class Forks(Line):
    """Has a forked process for what it adds, and one of a program, and ends neither by itself."""

    def __init__(self, pull=0.0, folder=None):
        super().__init__(pull)
        self.pipe, theirs = multiprocessing.Pipe()
        forked = multiprocessing.Process(target=wait_for_numbers, args=(theirs,), daemon=True)
        forked.start()
        program = subprocess.Popen(["sleep", "600"])
        assert multiprocessing.get_start_method() == multiprocessing.get_all_start_methods()[0]
        if folder:
            for pid in (forked.pid, program.pid):
                (Path(folder) / str(pid)).touch()

    def step(self, action):
        self.pipe.send(int(action))
        return super().step(self.pipe.recv())


class Batch(VectorEnv):
    """Can't be made alone."""


for cls in (Line, Large, Noisy, Chatter, Fails, Forks):
    gymnasium.register(f"{cls.__name__}-v0", cls, max_episode_steps=6)
for cls in (Own, Endless, Method):
    gymnasium.register(f"{cls.__name__}-v0", cls)
gymnasium.register("Batch-v0", vector_entry_point=Batch)
