"""Inner losses: estimators of the policy gradient that differ in what their own derivative is.

All have the same first derivative where the data was collected. The meta-gradient takes one more,
through the step, and there they differ: which of the terms of the true derivative survive.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metarl.agents.rollouts.batch import Batch, log_ratio

# logp (N, M) nats, differentiable; data; lambda -> loss of each task (N,)
Estimator = Callable[[Tensor, Batch, float], Tensor]


def lvc(logp: Tensor, batch: Batch, lam: float = 1.0) -> Tensor:
    """Likelihood ratio of each action: low-variance curvature.

    The denominator is the stored `logp`, so the value keeps its dependence on the weights that
    chose the data. Its Hessian lacks the products of scores at different times: little variance,
    and some bias that vanishes where advantages do.
    Source: Rothfuss et al. 2019 (arXiv:1810.06784), section 5.
    """
    return -(log_ratio(logp, batch).exp() * batch.adv * batch.weight).sum(-1)


def dice(logp: Tensor, batch: Batch, lam: float = 1.0) -> Tensor:
    """Likelihood ratio of all actions up to an advantage, those at distance d weighed by lam^d.

    With `lam` 1 every derivative is unbiased (if advantages are), and noisy; with 0 it is `lvc`.
    The value is an advantage over the collecting policy, so 0 there. The magic box is written
    with the stored `logp`, which makes it the importance-weighted objective away from there.
    Source: DiCE, Foerster et al. 2018 (arXiv:1802.05098), section 4; with advantages and `lam`,
        Loaded DiCE, Farquhar et al. 2019 (arXiv:1909.10549), section 4.
    """
    ratio = log_ratio(logp, batch).unflatten(-1, (-1, batch.episodes))  # (N, T, B)
    t = torch.arange(ratio.shape[1], device=logp.device)
    age = t.unsqueeze(1) - t  # (T, T) of step s at time t
    credit = torch.where(age >= 0, lam ** age.clamp(min=0).to(logp.dtype), 0.0)
    upto = credit @ ratio
    gain = (upto.exp() - (upto - ratio).exp()).flatten(1)
    loss: Tensor = -(gain * batch.adv * batch.weight).sum(-1)
    return loss


def log_likelihood(logp: Tensor, batch: Batch, lam: float = 1.0) -> Tensor:
    """Log likelihood times advantage, as most implementations of MAML have it.

    Biased: its derivative treats the data as given, so the meta-gradient lacks the term by which
    the weights also chose what the step was made from.
    Source of the flaw: Foerster et al. 2018 (arXiv:1802.05098), section 3.2.
    """
    return -(torch.where(batch.weight > 0, logp, 0) * batch.adv * batch.weight).sum(-1)


ESTIMATORS: dict[str, Estimator] = {"lvc": lvc, "dice": dice, "log-likelihood": log_likelihood}
