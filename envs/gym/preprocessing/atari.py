"""Atari games with the preprocessing of the Arcade Learning Environment's vector environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, TransformReward

FIRE = 1
MAX_NOOPS = 30
STEPS = 200  # of 4 frames each, 13 s of play; longer rollouts of images need too much memory


class Start(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Starts episodes with FIRE in games that wait for it, then up to 30 no-op frames.

    Without random action repeats, each episode restores the state of the game after loading. This
    is equivalent to reloading the game, as ALE does for each seed, but 16 times as fast. A plain
    reset is not enough, since in some games, such as Kaboom, state survives it.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], chance: bool) -> None:
        super().__init__(env)
        bare: Any = env.unwrapped
        self._loaded = None if chance else bare.ale.cloneSystemState()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        bare: Any = self.env.unwrapped
        if self._loaded is not None:
            bare.ale.restoreSystemState(self._loaded)
            if seed is not None:
                bare.np_random = np.random.default_rng(seed)  # draws the number of no-ops
                seed = None
        obs, info = self.env.reset(seed=seed, options=options)
        waits = bare.get_action_meanings()[FIRE] == "FIRE"
        noops = int(bare.np_random.integers(MAX_NOOPS + 1))
        for action in [FIRE] * waits + [0] * noops:
            obs, _, terminated, truncated, info = self.env.step(action)
            if terminated or truncated:
                obs, info = self.env.reset(options=options)
        return obs, info


def atari(
    environment: str,
    mode: int | None = None,  # None for the game's default, which may differ from 0
    difficulty: int | None = None,
    repeat_action_probability: float = 0.0,
    clip_reward: bool = True,
    render_mode: str | None = None,
) -> gymnasium.Env[Any, Any]:
    """Four frames per step, max over the last two, grayscale, 84 x 84, the last four stacked.

    By default rewards are clipped to their signs and there are no random action repeats. Losing a
    life doesn't end the episode.

    Source: the defaults of `ale_py.vector_env.AtariVectorEnv` 0.12; a test compares every frame.
    """
    import ale_py

    gymnasium.register_envs(ale_py)
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner from each worker
    env = gymnasium.make(
        environment,
        frameskip=1,
        mode=mode,
        difficulty=difficulty,
        obs_type="grayscale",
        repeat_action_probability=repeat_action_probability,
        render_mode=render_mode,
    )
    frames = AtariPreprocessing(Start(env, repeat_action_probability > 0), noop_max=0, frame_skip=4)
    stacked = FrameStackObservation(frames, 4, padding_type="zero")
    return TransformReward(stacked, lambda r: float(np.sign(float(r)))) if clip_reward else stacked


def atari_spec(name: str) -> EnvSpec:
    """`ALE/Freeway-v5` with this preprocessing and a time limit."""
    return EnvSpec(
        name,
        entry_point="metarl.envs.gym.preprocessing.atari:atari",
        kwargs={"environment": name},
        max_episode_steps=STEPS,
    )
