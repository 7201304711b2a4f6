"""Settings of what a policy starts from, and of the units in which it sees the world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

FILES = ("init_from", "init_normalize")
START = (*FILES, "trust")  # never read from a run folder, which may be someone else's


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """See each setting's help."""

    init_from: Annotated[
        str,
        arg(
            metavar="ZIP",
            help="start from the policy of this model of Stable-Baselines3 (PPO, A2C or TRPO with "
            "MlpPolicy and tanh); nothing in it is unpickled",
        ),
    ] = ""
    init_normalize: Annotated[
        str,
        arg(
            metavar="PKL",
            help="the VecNormalize that the model was trained behind, as its save() wrote it; "
            "needs --trust",
        ),
    ] = ""
    trust: Annotated[
        bool,
        arg(
            help="let code run that a file names: what the folder of --resume would import, and "
            "the pickle of --init-normalize"
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
            help="scale the rewards that a memory and its critic see by the running standard "
            "deviation of returns; elsewhere advantages of each task are normalised in any case"
        ),
    ] = False
