"""Action distributions as data: NamedTuples of tensors, so that they ride in a rollout."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

ABSENT = -1e9  # logit of what can't be chosen; an infinite one would make the 0 * inf of a KL


class Gaussian(NamedTuple):
    """Diagonal normal; densities sum over the A action dimensions."""

    mean: Tensor  # (..., A)
    log_std: Tensor  # (..., A), or fewer axes that broadcast

    def noise(self, *lead: int, gen: torch.Generator | None = None) -> Tensor:
        """What `sample` adds to the mean in `lead` draws, (*lead, ..., A) normal."""
        like = self.mean
        plain = torch.randn(*lead, *like.shape, generator=gen, device=like.device, dtype=like.dtype)
        return plain.mul_(self.log_std.detach().exp())

    def sample(self, noise: Tensor) -> Tensor:
        """Actions (..., A) from one draw of noise."""
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

    logits: Tensor  # (..., A), not normalised

    def noise(self, *lead: int, gen: torch.Generator | None = None) -> Tensor:
        """What `sample` needs for `lead` draws, (*lead, ..., 1) uniform in [0, 1)."""
        like = self.logits[..., :1]
        return torch.rand(*lead, *like.shape, generator=gen, device=like.device, dtype=like.dtype)

    def sample(self, noise: Tensor) -> Tensor:
        """Actions (...) int64: the cumulative distribution inverted at one draw of noise."""
        below = self.logits.softmax(-1).cumsum(-1) <= noise
        return below.sum(-1).clamp(max=self.logits.shape[-1] - 1)

    def mode(self) -> Tensor:
        """The most likely actions, (...) int64; the first of several."""
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
    """A independent choices at once, each of up to `most`."""

    logits: Tensor  # (..., A, most), ABSENT behind the last of a choice that has fewer

    def noise(self, *lead: int, gen: torch.Generator | None = None) -> Tensor:
        """What `sample` needs for `lead` draws, (*lead, ..., A, 1) uniform in [0, 1)."""
        return Categorical(self.logits).noise(*lead, gen=gen)

    def sample(self, noise: Tensor) -> Tensor:
        """Actions (..., A) int64 from one draw of noise."""
        # Rounding may leave the sum of all probabilities below the largest noise there is.
        last = (self.logits > ABSENT / 2).sum(-1) - 1
        return Categorical(self.logits).sample(noise).minimum(last)

    def mode(self) -> Tensor:
        """The most likely actions, (..., A) int64; the first of several."""
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
