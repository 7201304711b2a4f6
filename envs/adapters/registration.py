"""Registers tensor families with Gymnasium, without importing the families or torch."""

from __future__ import annotations

from typing import Any

import gymnasium

# Class -> family, time limit in steps.
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
    """Register `metarl/CartPole-v0` and the others."""
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
    """Make one environment of a family, with its parameters and `render_mode` as keywords."""
    from metarl.envs.adapters.gym_env import GymView
    from metarl.envs.registry import make_family

    return GymView(make_family(family), **more)


# Gymnasium reads the metadata of the entry point to support render_mode="human".
view.metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # type: ignore[attr-defined]
