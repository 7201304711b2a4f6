"""Published algorithms, each as the settings that it fixes; all other settings stay flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Algorithm:
    """A name for some settings of `TrainConfig`."""

    about: str
    source: str
    settings: dict[str, Any]


# One policy-gradient step on each batch, of a loss that isn't clipped.
_PLAIN: dict[str, Any] = {"epochs": 1, "clip": 0.0, "inner_kl": 0.0}
# No loss, so none after each step either.
_NO_LOSS = {**_PLAIN, "multi_step": False}
_TRPO = {**_PLAIN, "outer": "trpo"}

ALGORITHMS: dict[str, Algorithm] = {
    "promp": Algorithm(
        "clipped ratio and inner KL, several epochs; step sizes learned, the paper's are fixed",
        "Rothfuss et al. 2019 (arXiv:1810.06784)",
        {},
    ),
    "maml": Algorithm(
        "one policy-gradient step with Adam",
        "Finn et al. 2017 (arXiv:1703.03400)",
        {**_PLAIN, "step_size": "fixed"},
    ),
    "maml-trpo": Algorithm(
        "trust region over what adaptation leads to",
        "Finn et al. 2017 (arXiv:1703.03400), section 5.3",
        {**_TRPO, "step_size": "fixed"},
    ),
    "fomaml": Algorithm(
        "maml without second derivatives",
        "Finn et al. 2017 (arXiv:1703.03400), section 5.2; Nichol et al. 2018 (arXiv:1803.02999)",
        {**_PLAIN, "step_size": "fixed", "second_order_steps": 0},
    ),
    "imaml": Algorithm(
        "the derivative of where adaptation ends, whatever way it went",
        "Rajeswaran et al. 2019 (arXiv:1909.04630)",
        {
            **_PLAIN,
            "outer": "implicit",
            "step_size": "fixed",
            "inner_iterations": 5,
            "cg_steps": 10,  # 5 leave systems unsolved, which costs whole updates
        },
    ),
    "reptile": Algorithm(
        "towards the adapted weights",
        "Nichol et al. 2018 (arXiv:1803.02999)",
        {**_NO_LOSS, "outer": "reptile", "step_size": "fixed"},
    ),
    "anil": Algorithm(
        "adapts the last layer alone",
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
        "episodes before adaptation earn credit for returns after it",
        "Stadie et al. 2018 (arXiv:1803.01118)",
        # Sampling has its credit in the term: a ratio in the inner loss would count it twice.
        {**_PLAIN, "step_size": "fixed", "estimator": "log-likelihood", "exploration": 1.0},
    ),
    "es-maml": Algorithm(
        "evolution strategies over adaptation: no second derivatives",
        "Song et al. 2020 (arXiv:1910.01215)",
        # Every weight more is one more that chance moves.
        {**_NO_LOSS, "outer": "es", "step_size": "fixed", "hidden": (16,), "meta_lr": 0.03},
    ),
    "rl2": Algorithm(
        "remembers: a recurrent network that reads the whole trial",
        "Duan et al. 2016 (arXiv:1611.02779)",
        {"outer": "ppo", "memory": "gru", "multi_step": False},
    ),
    "fwp": Algorithm(
        "remembers in fast weights that the network itself writes, by the delta rule",
        "Schlag et al. 2021 (arXiv:2102.11174); Irie et al. 2021 (arXiv:2106.06295)",
        {"outer": "ppo", "memory": "fwp", "multi_step": False},
    ),
}
