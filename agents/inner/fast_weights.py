"""Choices of fast weights: functions from a policy to the names of the weights that adapt."""

from __future__ import annotations

from collections.abc import Callable

from metarl.agents.networks.policy import Policy

Fast = Callable[[Policy], list[str]]


def everything(policy: Policy) -> list[str]:
    """All weights.

    Source: MAML, Finn et al. 2017 (arXiv:1703.03400).
    """
    return [k for k, _ in policy.named_parameters()]


def head(policy: Policy) -> list[str]:
    """The last layer, and the standard deviation if actions are continuous.

    Source: ANIL, Raghu et al. 2020 (arXiv:1909.09157), section 4.
    """
    return [k for k in everything(policy) if k.startswith(policy.last_layer) or k == "log_std"]


def body(policy: Policy) -> list[str]:
    """All weights except the head.

    Source: BOIL, Oh et al. 2021 (arXiv:2008.08882), section 3.
    """
    return [k for k in everything(policy) if k not in head(policy)]


def context(policy: Policy) -> list[str]:
    """A context vector, 0 before adaptation, that is fed to the first dense layer.

    Source: CAVIA, Zintgraf et al. 2019 (arXiv:1810.03642), section 3.
    """
    return ["context"]


def lora(policy: Policy) -> list[str]:
    """Low-rank adapters of the dense layers.

    Source: Hu et al. 2021 (arXiv:2106.09685), section 4.1.
    """
    return [k for k in everything(policy) if k.startswith("lora_")]


FAST: dict[str, Fast] = {
    "all": everything,
    "head": head,
    "body": body,
    "context": context,
    "lora": lora,
}
