"""The settings that each algorithm, family and suite is shipped with."""

from __future__ import annotations

from typing import Any

from metarl.config.published import ALGORITHMS
from metarl.config.settings import TrainConfig
from metarl.envs import UsageError

# MuJoCo is most of the time: fewer episodes, and more updates on each of them. Credit must not
# drown in the rest of the episode; step sizes must fall as the noise does.
_CHEETAH = {
    "episodes": 10,
    "gamma": 0.97,
    "gae_lambda": 0.9,
    "meta_lr": 3e-3,
    "log_std_init": -0.5,
    "lr_decay": True,
}

# Where a family needs other settings than TrainConfig's own.
FAMILY_SETTINGS: dict[str, dict[str, Any]] = {
    # What an item is worth shows at once, so credit must not drown in the rest of the episode.
    "forager": {"inner_lr": 2.0, "gamma": 0.9, "gae_lambda": 0.7, "iterations": 250},
    # Small first noise, so that who is near the goal can stay there; another size for each step,
    # since the longer it has adapted the less there is to change.
    "point-navigation": {
        "inner_steps": 3,
        "multi_step": True,
        "step_size": "per-step",
        "inner_lr": 0.5,
        "log_std_init": -0.7,
        "epochs": 3,
        "meta_lr": 2e-3,
        "meta_lr_of_steps": 1e-2,
        "lr_decay": True,
        "iterations": 120,
    },
    # The first step finds the action mapping, further ones the target. A push moves the cart the
    # wrong way before it moves it the right way, so credit must reach a second ahead and more.
    "cartpole": {
        "hidden": (32, 32),
        "tasks": 10,
        "inner_steps": 3,
        "multi_step": True,
        "step_size": "per-step",
        "inner_lr": 2.0,
        "gamma": 0.995,
        "epochs": 4,
        "meta_lr": 1.5e-2,
        "meta_lr_of_steps": 3e-2,
        "lr_decay": True,
        "iterations": 24,
    },
    "pendulum": {
        "inner_lr": 0.3,
        "gamma": 0.95,
        "gae_lambda": 0.95,
        "meta_lr": 3e-3,
        "iterations": 90,
    },
    # Energy pays at once. Steps must be large from the start: adaptation has to become useful
    # before a policy that never adapts does, which has no way back.
    "acrobot": {"inner_lr": 2.0, "gamma": 0.9, "gae_lambda": 0.8, "iterations": 30},
    "mountain-car": {"inner_lr": 2.0, "gamma": 0.9, "gae_lambda": 0.8, "iterations": 25},
    # A hint, or what a food is worth, shows at once: credit must not drown in what comes later.
    "maze": {
        "network": "mlp",
        "inner_lr": 1.5,
        "gamma": 0.5,
        "gae_lambda": 0.7,
        "meta_lr": 3e-3,
        "meta_lr_of_steps": 0.02,
        "iterations": 120,
    },
    "snake": {
        "inner_lr": 2.0,
        "gamma": 0.7,
        "gae_lambda": 0.7,
        "meta_lr": 5e-3,
        "meta_lr_of_steps": 0.01,
        "iterations": 100,
    },
    # A pull, or a film, changes little of what comes after it: credit it with its own reward alone.
    "bandit": {"inner_lr": 5.0, "gamma": 0.0, "iterations": 40},
    "recommender": {
        "inner_lr": 5.0,
        "gamma": 0.0,
        "meta_lr": 3e-3,
        "meta_lr_of_steps": 1e-2,
        "iterations": 200,
    },
    # Where an action leads is soon forgotten, since transitions are random.
    "tabular-mdp": {"inner_lr": 5.0, "gae_lambda": 0.3, "meta_lr": 3e-3, "iterations": 100},
    # A move bears on this round and a little on the next.
    "repeated-rps": {"inner_lr": 2.0, "gamma": 0.5, "gae_lambda": 0.5, "iterations": 100},
    # A guess shows at once whether it was good, and hardly bears on the next.
    "word-guess": {
        "inner_lr": 2.0,
        "gamma": 0.0,
        "meta_lr": 3e-3,
        "meta_lr_of_steps": 1e-2,
        "iterations": 250,
    },
    "half-cheetah-dir": {**_CHEETAH, "iterations": 800},
    "half-cheetah-vel": {**_CHEETAH, "iterations": 150},
    # A key matters until the ball comes down, some ten steps later at most. Two steps in training
    # keep the third from overshooting; fewer tasks pay for the second.
    "breakout": {
        "network": "mlp",
        "inner_lr": 2.0,
        "inner_steps": 2,
        "multi_step": True,
        "tasks": 12,
        "gamma": 0.9,
        "gae_lambda": 0.9,
        "meta_lr": 5e-3,
        "iterations": 60,
    },
    # A shot is worth something only when the opponent misses it, eight steps later.
    "pong": {
        "inner_lr": 2.0,
        "inner_steps": 2,
        "multi_step": True,
        "tasks": 12,
        "gamma": 0.95,
        "meta_lr": 5e-3,
        "iterations": 60,
    },
}


# The same for all of a suite, by the beginning of the name: what fits in memory.
SUITE_SETTINGS: dict[str, dict[str, Any]] = {
    "ALE/": {"tasks": 4, "episodes": 4, "task_chunk": 2, "iterations": 100},
    "atari-": {"tasks": 4, "episodes": 4, "task_chunk": 2, "iterations": 100},
    "metaworld-": {"tasks": 10, "episodes": 10, "iterations": 100},
}


_TRIALS = {
    "episodes": 2,
    "task_chunk": 1000,
    "clip": 0.2,
    "epochs": 3,
    "value_weight": 0.1,
    "lr_decay": True,
}

# One gradient for each batch, so a longer one than where several epochs share it.
_ADAM = ("maml", "fomaml", "imaml", "meta-sgd", "maml-dice")
_ADAM_SETTINGS: dict[str, dict[str, Any]] = {
    "cartpole": {"iterations": 60},
    "forager": {"meta_lr": 5e-3, "lr_decay": True, "iterations": 150},
    "point-navigation": {"inner_lr": 0.3, "meta_lr": 5e-3, "iterations": 100},
    "half-cheetah-dir": {"meta_lr": 1e-2, "iterations": 80},
}
# A quarter of the episodes shows the curvature well enough, in a third of the time.
_TRUST = ("maml-trpo", "anil", "boil", "cavia")
_TRUSTED = {"max_kl": 0.03, "curvature_share": 0.25}
_TRUST_SETTINGS: dict[str, dict[str, Any]] = {
    "cartpole": {**_TRUSTED, "iterations": 30},
    "forager": {**_TRUSTED, "iterations": 60},
    "point-navigation": {**_TRUSTED, "inner_lr": 0.3, "iterations": 40},
    "half-cheetah-dir": {**_TRUSTED, "iterations": 80},
}

# Four episodes of a trial, as many as an evaluation of three steps plays; many small batches.
_FOUR = {**_TRIALS, "trial": 4, "meta_lr": 3e-3, "gae_lambda": 0.9}
_MEMORY_SETTINGS: dict[str, dict[str, Any]] = {
    "cartpole": {**_FOUR, "hidden": (64, 64), "tasks": 50, "gamma": 0.99, "iterations": 80},
    "forager": {**_FOUR, "tasks": 100, "gamma": 0.9, "iterations": 300},
    "point-navigation": {
        **_FOUR,
        "tasks": 100,
        "gamma": 0.9,
        "epochs": 4,
        "minibatches": 8,
        "entropy": 0.0,
        "iterations": 80,
    },
    "half-cheetah-dir": {**_FOUR, "tasks": 50, "gamma": 0.97, "epochs": 5, "iterations": 100},
}

# What an algorithm needs otherwise in one family.
PAIR_SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    **{(f, algo): settings for f, settings in _ADAM_SETTINGS.items() for algo in _ADAM},
    **{(f, algo): settings for f, settings in _TRUST_SETTINGS.items() for algo in _TRUST},
    # Curvature is steep: with longer steps the proximal point is far, or none is there.
    ("half-cheetah-dir", "imaml"): {**_ADAM_SETTINGS["half-cheetah-dir"], "inner_lr": 0.03},
    # An iteration costs several of maml's.
    ("point-navigation", "imaml"): {**_ADAM_SETTINGS["point-navigation"], "iterations": 60},
    # A context moves the policy less than all weights do.
    ("forager", "cavia"): {**_TRUST_SETTINGS["forager"], "inner_lr": 10.0},
    ("point-navigation", "cavia"): {**_TRUST_SETTINGS["point-navigation"], "inner_lr": 1.0},
    ("half-cheetah-dir", "cavia"): {**_TRUST_SETTINGS["half-cheetah-dir"], "inner_lr": 30.0},
    # Without learned step sizes it takes longer; without second derivatives there is time for it.
    ("forager", "reptile"): {"iterations": 400},
    ("point-navigation", "reptile"): {"inner_lr": 0.3, "meta_lr": 3e-3, "iterations": 300},
    ("cartpole", "reptile"): {"meta_lr": 3e-3, "iterations": 200},
    ("half-cheetah-dir", "reptile"): {"inner_lr": 0.3, "iterations": 80},
    ("half-cheetah-dir", "es-maml"): {"inner_lr": 1.0, "iterations": 60},
    ("half-cheetah-dir", "e-maml"): {"meta_lr": 1e-2, "iterations": 80},
    ("forager", "e-maml"): {"iterations": 250},
    ("point-navigation", "e-maml"): {"inner_lr": 0.3, "meta_lr": 3e-3, "iterations": 150},
    ("cartpole", "e-maml"): {"iterations": 130},
    # The value's loss is small beside the policy's: large, it stalls the cell that both share.
    **{
        ("bandit", algo): {
            **_TRIALS,
            "hidden": (32,),
            "trial": 1,
            "tasks": 500 if algo == "rl2" else 250,
            "minibatches": 4,
            "meta_lr": 5e-3,
            "gamma": 0.95,
            "gae_lambda": 0.9,
            "entropy": 0.02,
            "iterations": 400,
        }
        for algo in ("rl2", "fwp")
    },
    **{
        ("tabular-mdp", algo): {
            **_TRIALS,
            "hidden": (64,),
            "trial": 10,
            "tasks": 400,
            "minibatches": 8,
            "meta_lr": 3e-3,
            "gamma": 0.9,
            "gae_lambda": 0.3,
            "entropy": 0.01,
            "iterations": 450,
        }
        for algo in ("rl2", "fwp")
    },
    **{(f, algo): settings for f, settings in _MEMORY_SETTINGS.items() for algo in ("rl2", "fwp")},
    # Many agents, each on a task of its own, rather than many episodes of each.
    # Untrained, two steps of 2.0 bring the small network to 0.3, which leaves little to climb; of
    # 10.0, to 2.2.
    ("forager", "es-maml"): {"tasks": 50, "episodes": 10, "inner_lr": 10.0},
    ("point-navigation", "es-maml"): {"tasks": 50, "episodes": 10, "iterations": 400},
    # With small steps it finds the policy that never adapts, and stays there.
    ("cartpole", "es-maml"): {"tasks": 50, "episodes": 10, "inner_lr": 5.0, "iterations": 230},
}


def preset(family: str = "forager", algo: str = "promp", **settings: Any) -> TrainConfig:
    """The shipped settings of a family and an algorithm, and what is given instead of them.

    `network` may be the class or function itself; it is recorded by its name.

    Raises:
        UsageError: no such algorithm.
    """
    if algo not in ALGORITHMS:
        raise UsageError(f"--algo {algo}: unknown; give one of {', '.join(ALGORITHMS)}.")
    suite = [v for start, v in SUITE_SETTINGS.items() if family.startswith(start)]
    own = FAMILY_SETTINGS.get(family, suite[0] if suite else {})
    shipped = {**own, **ALGORITHMS[algo].settings, **PAIR_SETTINGS.get((family, algo), {})}
    settings = {**shipped, **settings}
    if callable(network := settings.get("network")):
        settings["network"] = f"{network.__module__}:{network.__qualname__}"
    return TrainConfig(family=family, algo=algo, **settings)
