import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Catch(gymnasium.Env):
    """Three balls fall, one after the other, in a wind; catch them with a paddle."""

    def __init__(self, wind=0.0, keys=1):
        self.wind, self.keys = wind, keys
        self.observation_space = Box(-2.0, 2.0, (3,), np.float32)
        self.action_space = Discrete(3)

    def drop(self):
        self.ball, self.height = self.np_random.uniform(-1.0, 1.0), 1.0

    def look(self):
        return np.array([self.ball, self.height, self.paddle], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.paddle = 0.0
        self.drop()
        return self.look(), {}

    def step(self, action):
        move = 0.2 * self.keys * (int(action) - 1)
        self.paddle = float(np.clip(self.paddle + move, -1.0, 1.0))
        self.ball = float(np.clip(self.ball + self.wind, -1.0, 1.0))
        self.height -= 0.1
        caught = 0.0
        if self.height < 0.05:
            caught = float(abs(self.ball - self.paddle) < 0.2)
            self.drop()
        return self.look(), caught, False, False, {}


gymnasium.register("Catch-v0", Catch, max_episode_steps=30)
