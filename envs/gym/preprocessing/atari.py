"""Atari games as the Arcade Learning Environment's own vector environment shows them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, TransformReward

FIRE = 1
MAX_NOOPS = 30
STEPS = 200  # of 4 frames each, 13 s of play: what a rollout of pictures leaves room for


class Start(gymnasium.Wrapper[Any, Any, Any, Any]):
    """FIRE, in games that wait for it, then up to 30 frames of no action.

    Where chance has no part in the game, an episode starts from the game as it was loaded: what
    loading it anew gives, as ALE does for each seed, in a sixteenth of the time. Resetting the game
    is not enough: something of the last episode stays in some, such as Kaboom.
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
                bare.np_random = np.random.default_rng(seed)  # of the number of no-ops
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
    mode: int | None = None,  # the game's own, which need not be 0
    difficulty: int | None = None,
    repeat_action_probability: float = 0.0,
    clip_reward: bool = True,
    render_mode: str | None = None,
) -> gymnasium.Env[Any, Any]:
    """Four frames a step, the last two pooled, grey, 84 x 84, the last four stacked.

    Rewards are clipped to -1, 0, 1; an action is never repeated by chance; a life lost is no end.
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
    seen = AtariPreprocessing(Start(env, repeat_action_probability > 0), noop_max=0, frame_skip=4)
    stacked = FrameStackObservation(seen, 4, padding_type="zero")
    return TransformReward(stacked, lambda r: float(np.sign(float(r)))) if clip_reward else stacked


def atari_spec(name: str) -> EnvSpec:
    """`ALE/Freeway-v5` with this preprocessing and a time limit."""
    return EnvSpec(
        name,
        entry_point="metarl.envs.gym.preprocessing.atari:atari",
        kwargs={"environment": name},
        max_episode_steps=STEPS,
    )
