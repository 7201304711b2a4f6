"""Action distributions as NamedTuples of tensors, which can be stored in a rollout."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

ABSENT = -1e9  # logit of an unavailable choice; an infinite one would give 0 * inf in a KL


class Gaussian(NamedTuple):
    """Diagonal normal over A action dimensions; log densities, entropies and KLs are summed."""

    mean: Tensor  # (..., A)
    log_std: Tensor  # (..., A), or fewer axes that broadcast

    def noise(self, *lead: int, gen: torch.Generator | None = None) -> Tensor:
        """Scaled normal noise that `sample` adds to the mean, (*lead, ..., A)."""
        like = self.mean
        unit = torch.randn(*lead, *like.shape, generator=gen, device=like.device, dtype=like.dtype)
        return unit.mul_(self.log_std.detach().exp())

    def sample(self, noise: Tensor) -> Tensor:
        """Actions (..., A) from noise of the same shape."""
        return self.mean + noise

    def mode(self) -> Tensor:
        """The most likely actions, (..., A)."""
        return self.mean

    def log_prob(self, act: Tensor) -> Tensor:
        """Log density in nats, (...)."""
        z = (act - self.mean) * (-self.log_std).exp()
        each = -0.5 * z.square() - self.log_std
        return each.sum(-1) - 0.5 * math.log(2 * math.pi) * act.shape[-1]

    def entropy(self) -> Tensor:
        """Differential entropy in nats, (...)."""
        each = self.log_std + 0.5 * math.log(2 * math.pi * math.e)
        return each.expand_as(self.mean).sum(-1)

    def kl(self, other: Gaussian) -> Tensor:
        """KL(self || other) in nats, (...)."""
        ratio = (2 * (self.log_std - other.log_std)).exp()
        shift = ((self.mean - other.mean) * (-other.log_std).exp()).square()
        return (other.log_std - self.log_std + 0.5 * (ratio + shift - 1)).sum(-1)


class Categorical(NamedTuple):
    """One of A actions."""

    logits: Tensor  # (..., A), unnormalized

    def noise(self, *lead: int, gen: torch.Generator | None = None) -> Tensor:
        """Uniform noise in [0, 1) for `sample`, (*lead, ..., 1)."""
        like = self.logits[..., :1]
        return torch.rand(*lead, *like.shape, generator=gen, device=like.device, dtype=like.dtype)

    def sample(self, noise: Tensor) -> Tensor:
        """Actions (...) int64 by inverting the cumulative distribution at the noise (..., 1)."""
        below = self.logits.softmax(-1).cumsum(-1) <= noise
        return below.sum(-1).clamp(max=self.logits.shape[-1] - 1)

    def mode(self) -> Tensor:
        """The most likely actions, (...) int64; ties go to the first."""
        return self.logits.argmax(-1)

    def log_prob(self, act: Tensor) -> Tensor:
        """Log probability in nats, (...)."""
        return self.logits.log_softmax(-1).gather(-1, act.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Entropy in nats, (...)."""
        logp = self.logits.log_softmax(-1)
        return -(logp.exp() * logp).sum(-1)

    def kl(self, other: Categorical) -> Tensor:
        """KL(self || other) in nats, (...)."""
        logp = self.logits.log_softmax(-1)
        return (logp.exp() * (logp - other.logits.log_softmax(-1))).sum(-1)


class MultiCategorical(NamedTuple):
    """A independent discrete actions, the largest of which has `most` choices."""

    logits: Tensor  # (..., A, most); ABSENT pads actions that have fewer choices

    def noise(self, *lead: int, gen: torch.Generator | None = None) -> Tensor:
        """Uniform noise in [0, 1) for `sample`, (*lead, ..., A, 1)."""
        return Categorical(self.logits).noise(*lead, gen=gen)

    def sample(self, noise: Tensor) -> Tensor:
        """Actions (..., A) int64 from noise (..., A, 1)."""
        # By rounding, the probabilities may sum to less than the largest possible noise.
        last = (self.logits > ABSENT / 2).sum(-1) - 1
        return Categorical(self.logits).sample(noise).minimum(last)

    def mode(self) -> Tensor:
        """The most likely actions, (..., A) int64; ties go to the first."""
        return self.logits.argmax(-1)

    def log_prob(self, act: Tensor) -> Tensor:
        """Log probability in nats, (...)."""
        return Categorical(self.logits).log_prob(act).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy in nats, (...)."""
        return Categorical(self.logits).entropy().sum(-1)

    def kl(self, other: MultiCategorical) -> Tensor:
        """KL(self || other) in nats, (...)."""
        return Categorical(self.logits).kl(Categorical(other.logits)).sum(-1)


Distribution = Gaussian | Categorical | MultiCategorical
