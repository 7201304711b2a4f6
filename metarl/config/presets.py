"""Default settings for each algorithm, family and suite."""

from __future__ import annotations

from typing import Any

from metarl.config.published import ALGORITHMS
from metarl.config.settings import TrainConfig
from metarl.envs import UsageError

# Simulation dominates the time with MuJoCo: fewer episodes, and more updates on each of them. A
# short credit horizon reduces the variance; decaying learning rates help late in training.
_CHEETAH = {
    "episodes": 10,
    "gamma": 0.97,
    "gae_lambda": 0.9,
    "meta_lr": 3e-3,
    "log_std_init": -0.5,
    "lr_decay": True,
}

# Families that need other settings than the defaults of TrainConfig.
FAMILY_SETTINGS: dict[str, dict[str, Any]] = {
    # The reward of an item is immediate, so a short credit horizon reduces the variance.
    "forager": {"inner_lr": 2.0, "gamma": 0.9, "gae_lambda": 0.7, "iterations": 250},
    # Small initial noise, so that an agent near the goal can stay there. A step size for each step,
    # since later steps need smaller changes.
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
    # The first step identifies the action mapping, further steps the target. The cart must first
    # move away from the target to tilt the pole, so the credit horizon must exceed a second.
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
    # Reward for energy is immediate. Step sizes must be large from the start: otherwise training
    # converges to a policy that never adapts, a local optimum that it doesn't leave.
    "acrobot": {"inner_lr": 2.0, "gamma": 0.9, "gae_lambda": 0.8, "iterations": 30},
    "mountain-car": {"inner_lr": 2.0, "gamma": 0.9, "gae_lambda": 0.8, "iterations": 25},
    # The reward of a hint or of a food is immediate: a short credit horizon reduces the variance.
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
    # An action hardly affects later rewards: credit it with its own reward only.
    "bandit": {"inner_lr": 5.0, "gamma": 0.0, "iterations": 40},
    "recommender": {
        "inner_lr": 5.0,
        "gamma": 0.0,
        "meta_lr": 3e-3,
        "meta_lr_of_steps": 1e-2,
        "iterations": 200,
    },
    # Transitions are random, so the effect of an action decays quickly.
    "tabular-mdp": {"inner_lr": 5.0, "gae_lambda": 0.3, "meta_lr": 3e-3, "iterations": 100},
    # A move affects this round, and the next one a little.
    "repeated-rps": {"inner_lr": 2.0, "gamma": 0.5, "gae_lambda": 0.5, "iterations": 100},
    # The reward of a guess is immediate, and it hardly affects later ones.
    "word-guess": {
        "inner_lr": 2.0,
        "gamma": 0.0,
        "meta_lr": 3e-3,
        "meta_lr_of_steps": 1e-2,
        "iterations": 250,
    },
    "half-cheetah-dir": {**_CHEETAH, "iterations": 800},
    "half-cheetah-vel": {**_CHEETAH, "iterations": 150},
    # An action matters until the ball comes down, at most about ten steps later. Training with two
    # inner steps keeps the third from overshooting; fewer tasks compensate for the cost.
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
    # A shot is rewarded only when the opponent misses it, eight steps later.
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


# Settings of suites, by the prefix of the family's name; chosen to fit in memory.
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

# A single epoch on each batch, so a larger learning rate than with several epochs.
_ADAM = ("maml", "fomaml", "imaml", "meta-sgd", "maml-dice")
_ADAM_SETTINGS: dict[str, dict[str, Any]] = {
    "cartpole": {"iterations": 60},
    "forager": {"meta_lr": 5e-3, "lr_decay": True, "iterations": 150},
    "point-navigation": {"inner_lr": 0.3, "meta_lr": 5e-3, "iterations": 100},
    "half-cheetah-dir": {"meta_lr": 1e-2, "iterations": 80},
}
# A quarter of the episodes estimates the curvature well enough, in a third of the time.
_TRUST = ("maml-trpo", "anil", "boil", "cavia")
_TRUSTED = {"max_kl": 0.03, "curvature_share": 0.25}
_TRUST_SETTINGS: dict[str, dict[str, Any]] = {
    "cartpole": {**_TRUSTED, "iterations": 30},
    "forager": {**_TRUSTED, "iterations": 60},
    "point-navigation": {**_TRUSTED, "inner_lr": 0.3, "iterations": 40},
    "half-cheetah-dir": {**_TRUSTED, "iterations": 80},
}

# Four episodes in a trial, as many as in an evaluation of three steps; many small batches.
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

# Settings for a pair of family and algorithm.
PAIR_SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    **{(f, algo): settings for f, settings in _ADAM_SETTINGS.items() for algo in _ADAM},
    **{(f, algo): settings for f, settings in _TRUST_SETTINGS.items() for algo in _TRUST},
    # High curvature: with larger steps the proximal point is far away, or doesn't exist.
    ("half-cheetah-dir", "imaml"): {**_ADAM_SETTINGS["half-cheetah-dir"], "inner_lr": 0.03},
    # An iteration costs as much as several iterations of maml.
    ("point-navigation", "imaml"): {**_ADAM_SETTINGS["point-navigation"], "iterations": 60},
    # A context changes the policy less than all weights do, so it needs larger steps.
    ("forager", "cavia"): {**_TRUST_SETTINGS["forager"], "inner_lr": 10.0},
    ("point-navigation", "cavia"): {**_TRUST_SETTINGS["point-navigation"], "inner_lr": 1.0},
    ("half-cheetah-dir", "cavia"): {**_TRUST_SETTINGS["half-cheetah-dir"], "inner_lr": 30.0},
    # Without learned step sizes it needs more iterations, which are cheap: no second derivatives.
    ("forager", "reptile"): {"iterations": 400},
    ("point-navigation", "reptile"): {"inner_lr": 0.3, "meta_lr": 3e-3, "iterations": 300},
    ("cartpole", "reptile"): {"meta_lr": 3e-3, "iterations": 200},
    ("half-cheetah-dir", "reptile"): {"inner_lr": 0.3, "iterations": 80},
    ("half-cheetah-dir", "es-maml"): {"inner_lr": 1.0, "iterations": 60},
    ("half-cheetah-dir", "e-maml"): {"meta_lr": 1e-2, "iterations": 80},
    ("forager", "e-maml"): {"iterations": 250},
    ("point-navigation", "e-maml"): {"inner_lr": 0.3, "meta_lr": 3e-3, "iterations": 150},
    ("cartpole", "e-maml"): {"iterations": 130},
    # A small weight of the value loss: a large one stalls the cell shared with the policy.
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
    # Many agents, each on a separate task, rather than many episodes of each. Before training, two
    # steps of size 2.0 bring the small network to a return of 0.3, which gives almost no gradient
    # to climb; steps of size 10.0 bring it to 2.2.
    ("forager", "es-maml"): {"tasks": 50, "episodes": 10, "inner_lr": 10.0},
    ("point-navigation", "es-maml"): {"tasks": 50, "episodes": 10, "iterations": 400},
    # With small steps it converges to a policy that never adapts.
    ("cartpole", "es-maml"): {"tasks": 50, "episodes": 10, "inner_lr": 5.0, "iterations": 230},
}


def preset(family: str = "forager", algo: str = "promp", **settings: Any) -> TrainConfig:
    """The default settings of a family and an algorithm, overridden by `settings`.

    `network` may be the class or function itself; it is recorded by its name.

    Raises:
        UsageError: no such algorithm.
    """
    if algo not in ALGORITHMS:
        raise UsageError(f"--algo {algo}: unknown; give one of {', '.join(ALGORITHMS)}.")
    suite = [v for start, v in SUITE_SETTINGS.items() if family.startswith(start)]
    of_family = FAMILY_SETTINGS.get(family, suite[0] if suite else {})
    defaults = {**of_family, **ALGORITHMS[algo].settings, **PAIR_SETTINGS.get((family, algo), {})}
    settings = {**defaults, **settings}
    if callable(network := settings.get("network")):
        settings["network"] = f"{network.__module__}:{network.__qualname__}"
    return TrainConfig(family=family, algo=algo, **settings)
