"""Gymnasium environments in which tests can make trouble; imported by worker processes too."""

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete


class Counter(gymnasium.Env):
    """Adds `gain` * (action + luck) to a number for ever; the reward is the number."""

    def __init__(self, gain=1.0, folder=None, trouble=None, at=3, scale=1.0, program=False):
        self.gain, self.bonus, self.doubled = gain, 0.5, 1.0
        self.folder, self.trouble, self.at, self.scale = folder, trouble, at, scale
        if program:  # which nobody ends, and whose number is the name of a file
            (Path(folder) / f"pid-{subprocess.Popen(['sleep', '600']).pid}").touch()
        self.observation_space = Box(-np.inf, np.inf, (1,), np.float64)
        self.action_space = Box(-2.0, 4.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t, self.seed = 0.0, 0, seed
        return np.array([self.x]), {}

    def step(self, action):
        self.t += 1
        if self.trouble and self.t == self.at and not self._probed():
            self._make_trouble()
        self.x += self.gain * (float(action[0]) + self.np_random.random()) + self.doubled
        return np.array([self.x]), self.x, False, False, {"success": self.x > 10}

    def _probed(self):
        """Trouble spares small seeds, with which families are explored, and waits for `go`."""
        return self.seed < 1000 or not (Path(self.folder) / "go").exists()

    def _make_trouble(self):
        once = self.trouble.startswith("once ")
        if once:
            try:
                (Path(self.folder) / "done").touch(exist_ok=False)
            except FileExistsError:
                return
        kind = self.trouble.removeprefix("once ")
        if kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hang":
            time.sleep(600)
        if kind == "hang without a thread":  # in C that keeps the interpreter to itself
            ctypes.PyDLL(None).sleep(600)
        if kind == "raise":
            raise ValueError("no such\nthing")
        if kind == "nan":
            self.x = np.nan


class Spaces(gymnasium.Env):
    """Every kind of observation in a Dict, and a MultiDiscrete action."""

    def __init__(self, goal=1.0):
        self.goal = goal
        self.observation_space = Dict(
            {"kind": Discrete(3), "pair": MultiDiscrete([2, 4]), "x": Box(0.0, 1.0, (2, 2))}
        )
        self.action_space = MultiDiscrete([3, 2], start=[1, 5])

    def _obs(self):
        return {"kind": self.t % 3, "pair": np.array([1, 2]), "x": np.full((2, 2), 0.5, np.float32)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.t += 1
        return self._obs(), self.goal * float(action[0]), self.t == 5, False, {}


class Picture(gymnasium.Env):
    """A colour picture whose shade is the task's only where an action lands on it."""

    def __init__(self, shade=1):
        self.shade = shade
        self.observation_space = Box(0, 255, (12, 10, 3), np.uint8)
        self.action_space = Discrete(3, start=-1)

    def _obs(self):
        picture = np.zeros((12, 10, 3), np.uint8)
        picture[self.t, :, 1] = 200
        return picture

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.t += 1
        return self._obs(), float(self.shade * action), False, False, {}


class Unseeded(Counter):
    """Draws from a stream that nobody can seed."""

    def step(self, action):
        obs, *rest = super().step(action)
        return obs + os.urandom(1)[0], *rest


for cls in (Counter, Spaces, Picture, Unseeded):
    gymnasium.register(f"{cls.__name__}-v0", cls, max_episode_steps=6)


def set_bonus(env, value):
    env.unwrapped.doubled = value
