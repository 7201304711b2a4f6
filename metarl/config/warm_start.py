"""Settings of the warm start and of normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

FILES = ("init_from", "init_normalize")
START = (*FILES, "trust")  # never read from a run folder, whose author may not be the user


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Warm start from Stable-Baselines3, and normalization of observations and returns."""

    init_from: Annotated[
        str,
        arg(
            metavar="ZIP",
            help="start from the policy of this Stable-Baselines3 model (PPO, A2C or TRPO with "
            "MlpPolicy and tanh); nothing in it is unpickled",
        ),
    ] = ""
    init_normalize: Annotated[
        str,
        arg(
            metavar="PKL",
            help="the VecNormalize that the model was trained with, as written by its save(); "
            "needs --trust",
        ),
    ] = ""
    trust: Annotated[
        bool,
        arg(
            help="allow code from files to run: imports that the folder of --resume names, and the "
            "pickle of --init-normalize"
        ),
    ] = False
    normalize_obs: Annotated[
        bool,
        arg(
            help="center and scale observations by their running mean and variance, updated after "
            "each meta-iteration; nothing is clipped"
        ),
    ] = False
    normalize_return: Annotated[
        bool,
        arg(
            help="with --memory: divide the rewards that the network and its critic receive by the "
            "running standard deviation of returns; otherwise advantages are normalized per task"
        ),
    ] = False
