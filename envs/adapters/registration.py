"""Families in tensors by Gymnasium's ids, known to it before any of them, or torch, is loaded."""

from __future__ import annotations

from typing import Any

import gymnasium

# Class, family, and the steps after which Gymnasium is to truncate an episode.
IDS = {
    "Forager": ("forager", 50),
    "Breakout": ("breakout", 60),
    "Pong": ("pong", 96),
    "Snake": ("snake", 40),
    "Maze": ("maze", 25),
    "RepeatedRPS": ("repeated-rps", 30),
    "WordGuess": ("word-guess", 9),
    "Bandit": ("bandit", 10),
    "TabularMDP": ("tabular-mdp", 10),
    "Recommender": ("recommender", 20),
    "PointNavigation": ("point-navigation", 100),
    "CartPole": ("cartpole", 200),
    "Pendulum": ("pendulum", 100),
    "Acrobot": ("acrobot", 100),
    "MountainCar": ("mountain-car", 200),
}


def register() -> None:
    """`metarl/CartPole-v0` and so on."""
    for cls, (family, steps) in IDS.items():
        name = f"metarl/{cls}-v0"
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="metarl.envs.adapters.registration:view",
                max_episode_steps=steps,
                kwargs={"family": family},
            )


def view(family: str, **more: Any) -> Any:
    """A family as one environment; its parameters, and `render_mode`, by their names."""
    from metarl.envs.adapters.gym_env import GymView
    from metarl.envs.registry import make_family

    return GymView(make_family(family), **more)


# What Gymnasium asks a class for, to draw `human` pictures itself.
view.metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # type: ignore[attr-defined]
