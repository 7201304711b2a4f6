"""Inner losses: estimators of the policy gradient with different second derivatives.

At the collecting weights all have the same gradient. The meta-gradient also differentiates through
the inner step, and the estimators differ in which terms of the true second derivative they keep.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metarl.agents.rollouts.batch import Batch, log_ratio

# Log-probabilities (N, M) in nats, differentiable; batch; lambda -> loss of each task (N,).
Estimator = Callable[[Tensor, Batch, float], Tensor]


def lvc(logp: Tensor, batch: Batch, lam: float = 1.0) -> Tensor:
    """Low-variance curvature (LVC): the likelihood ratio of each action.

    The denominator is the stored `logp`, so the value depends on the weights that collected the
    data. The Hessian lacks the products of scores at different times: it has low variance, and a
    bias that vanishes where the advantages do.

    Source: Rothfuss et al. 2019 (arXiv:1810.06784), section 5.
    """
    return -(log_ratio(logp, batch).exp() * batch.adv * batch.weight).sum(-1)


def dice(logp: Tensor, batch: Batch, lam: float = 1.0) -> Tensor:
    """DiCE: likelihood ratio of all actions up to an advantage, discounted by lam^distance.

    With `lam` 1, derivatives of all orders are unbiased (if the advantages are), but noisy; with
    `lam` 0 this is `lvc`. The value is the advantage over the collecting policy, thus 0 at the
    collecting weights. The magic box uses the stored `logp`, so that elsewhere the value is the
    importance-weighted objective.

    Source: DiCE, Foerster et al. 2018 (arXiv:1802.05098), section 4; with advantages and `lam`,
        Loaded DiCE, Farquhar et al. 2019 (arXiv:1909.10549), section 4.
    """
    ratio = log_ratio(logp, batch).unflatten(-1, (-1, batch.episodes))  # (N, T, B)
    t = torch.arange(ratio.shape[1], device=logp.device)
    distance = t.unsqueeze(1) - t  # (T, T) steps from s (column) to t (row)
    credit = torch.where(distance >= 0, lam ** distance.clamp(min=0).to(logp.dtype), 0.0)
    total = credit @ ratio
    gain = (total.exp() - (total - ratio).exp()).flatten(1)
    loss: Tensor = -(gain * batch.adv * batch.weight).sum(-1)
    return loss


def log_likelihood(logp: Tensor, batch: Batch, lam: float = 1.0) -> Tensor:
    """Log-likelihood times advantage, as in most implementations of MAML.

    Biased: its derivative treats the data as fixed, so the meta-gradient lacks the term for the
    dependence of the collected data on the weights.

    Source: Foerster et al. 2018 (arXiv:1802.05098), section 3.2, describes the bias.
    """
    return -(torch.where(batch.weight > 0, logp, 0) * batch.adv * batch.weight).sum(-1)


ESTIMATORS: dict[str, Estimator] = {"lvc": lvc, "dice": dice, "log-likelihood": log_likelihood}
