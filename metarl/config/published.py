"""Published algorithms: each is the set of settings that it fixes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Algorithm:
    """A published algorithm as settings of `TrainConfig`."""

    about: str
    source: str
    settings: dict[str, Any]


# One policy-gradient step on each batch, with an unclipped loss.
_PLAIN: dict[str, Any] = {"epochs": 1, "clip": 0.0, "inner_kl": 0.0}
# These rules have no outer loss, so there is none to average over inner steps.
_NO_LOSS = {**_PLAIN, "multi_step": False}
_TRPO = {**_PLAIN, "outer": "trpo"}

ALGORITHMS: dict[str, Algorithm] = {
    "promp": Algorithm(
        "clipped ratio and inner KL, several epochs; step sizes are learned, in the paper fixed",
        "Rothfuss et al. 2019 (arXiv:1810.06784)",
        {},
    ),
    "maml": Algorithm(
        "one policy-gradient step with Adam",
        "Finn et al. 2017 (arXiv:1703.03400)",
        {**_PLAIN, "step_size": "fixed"},
    ),
    "maml-trpo": Algorithm(
        "trust region on the adapted policies",
        "Finn et al. 2017 (arXiv:1703.03400), section 5.3",
        {**_TRPO, "step_size": "fixed"},
    ),
    "fomaml": Algorithm(
        "maml without second derivatives",
        "Finn et al. 2017 (arXiv:1703.03400), section 5.2; Nichol et al. 2018 (arXiv:1803.02999)",
        {**_PLAIN, "step_size": "fixed", "second_order_steps": 0},
    ),
    "imaml": Algorithm(
        "implicit differentiation of the adapted weights, independent of the path to them",
        "Rajeswaran et al. 2019 (arXiv:1909.04630)",
        {
            **_PLAIN,
            "outer": "implicit",
            "step_size": "fixed",
            "inner_iterations": 5,
            "cg_steps": 10,  # with 5, some systems stay unsolved and their updates are skipped
        },
    ),
    "reptile": Algorithm(
        "moves toward the adapted weights, without differentiating adaptation",
        "Nichol et al. 2018 (arXiv:1803.02999)",
        {**_NO_LOSS, "outer": "reptile", "step_size": "fixed"},
    ),
    "anil": Algorithm(
        "adapts only the last layer",
        "Raghu et al. 2020 (arXiv:1909.09157)",
        {**_TRPO, "fast": "head", "step_size": "fixed"},
    ),
    "boil": Algorithm(
        "adapts all but the last layer",
        "Oh et al. 2021 (arXiv:2008.08882)",
        {**_TRPO, "fast": "body", "step_size": "fixed"},
    ),
    "cavia": Algorithm(
        "adapts a context vector that starts at 0 in every task",
        "Zintgraf et al. 2019 (arXiv:1810.03642)",
        {**_TRPO, "fast": "context", "step_size": "fixed"},
    ),
    "meta-sgd": Algorithm(
        "a learned step size for each weight",
        "Li et al. 2017 (arXiv:1707.09835)",
        {**_PLAIN, "step_size": "per-weight"},
    ),
    "maml-dice": Algorithm(
        "unbiased meta-gradients",
        "Foerster et al. 2018 (arXiv:1802.05098)",
        {**_PLAIN, "step_size": "fixed", "estimator": "dice"},
    ),
    "e-maml": Algorithm(
        "credits episodes before adaptation with the returns after it",
        "Stadie et al. 2018 (arXiv:1803.01118)",
        # The term credits sampling already: a ratio in the inner loss would count it twice.
        {**_PLAIN, "step_size": "fixed", "estimator": "log-likelihood", "exploration": 1.0},
    ),
    "es-maml": Algorithm(
        "evolution strategies over adaptation, without derivatives of it",
        "Song et al. 2020 (arXiv:1910.01215)",
        # A small network: the variance of the estimate grows with the number of weights.
        {**_NO_LOSS, "outer": "es", "step_size": "fixed", "hidden": (16,), "meta_lr": 0.03},
    ),
    "rl2": Algorithm(
        "a recurrent network over the whole trial",
        "Duan et al. 2016 (arXiv:1611.02779)",
        {"outer": "ppo", "memory": "gru", "multi_step": False},
    ),
    "fwp": Algorithm(
        "a recurrent network whose state is fast weights, written by the delta rule",
        "Schlag et al. 2021 (arXiv:2102.11174); Irie et al. 2021 (arXiv:2106.06295)",
        {"outer": "ppo", "memory": "fwp", "multi_step": False},
    ),
}
