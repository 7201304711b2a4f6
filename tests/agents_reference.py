"""The agents layer again, slow and from the definitions; and data to try it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor, nn

from metarl.agents.inner.estimators import lvc
from metarl.agents.networks.distributions import Distribution, Gaussian, MultiCategorical
from metarl.agents.networks.policy import Params, act_dist
from metarl.agents.rollouts.batch import Batch
from metarl.envs.core.family import Range

POISON = 7.0  # what padding holds in tests: far from 0, so that a missing mask shows


def living_steps(lengths: list[list[int]], steps: int) -> Tensor:
    """alive (N, T, B) float64 of episodes of these lengths, one list for each task."""
    t = torch.arange(steps).view(1, -1, 1)
    return (t < torch.tensor(lengths).unsqueeze(1)).double()


def discounted_sum_by_definition(x: Tensor, discount: float) -> Tensor:
    """sum_l discount^l x[n, t + l, b] as a sum over all pairs of times."""
    out = torch.zeros_like(x)
    for t in range(x.shape[1]):
        for later in range(t, x.shape[1]):
            out[:, t] += discount ** (later - t) * x[:, later]
    return out


def gae_by_definition(rew: Tensor, val: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """A_t = sum_l (gamma lam)^l delta_{t + l}, as a double loop over one episode at a time."""
    adv = torch.zeros_like(rew)
    for n, b in np.ndindex(rew.shape[0], rew.shape[2]):
        length = int(mask[n, :, b].sum())
        for t in range(length):
            for j in range(t, length):
                after = val[n, j + 1, b] if j + 1 < length else 0.0
                delta = rew[n, j, b] + gamma * after - val[n, j, b]
                adv[n, t, b] += (gamma * lam) ** (j - t) * delta
    return adv


def features_by_definition(obs: Tensor) -> np.ndarray[Any, Any]:
    """What the baseline sees of one observation, without the clock."""
    x = obs.double().numpy() / (255 if obs.dtype == torch.uint8 else 1)
    x = np.clip(x, -10, 10)
    if x.ndim == 1:
        stretches = [x[a:b].mean() for a, b in equal_parts(len(x), 512)]
        return np.array(stretches) if len(x) > 512 else np.concatenate([x, x**2])
    planes = x.reshape(-1, *x.shape[-2:])
    if x.size <= 256:
        return x.flatten()
    side = next(s for s in (4, 3, 2, 1) if s == 1 or len(planes) * s**2 <= 512)
    rows, columns = (equal_parts(n, min(n, side)) for n in x.shape[-2:])
    return np.array([p[a:b, c:d].mean() for p in planes for a, b in rows for c, d in columns])


def equal_parts(n: int, parts: int) -> list[tuple[int, int]]:
    """First and last + 1 of parts that cover n numbers, each as much of it as any touches."""
    return [(i * n // parts, -(-(i + 1) * n // parts)) for i in range(parts)]


def baseline_by_lstsq(obs: Tensor, ret: Tensor, mask: Tensor, ridge: float) -> Tensor:
    """Ridge regression of each task's valid steps; the ridge enters as rows of data.

    Minimizes (1 / M) sum_m (ret_m - f_m . c)^2 + ridge |c|^2 over the M valid steps.
    """
    val = torch.zeros_like(ret)
    for n in range(ret.shape[0]):
        where = [(t, b) for t, b in np.ndindex(*ret.shape[1:]) if mask[n, t, b]]
        rows = []
        for t, b in where:
            clock = t / 100
            seen = features_by_definition(obs[n, t, b])
            rows.append(np.concatenate([seen, [clock, clock**2, clock**3, 1.0]]))
        feature = np.stack(rows)
        target = np.array([ret[n, t, b].item() for t, b in where])
        scale, size = len(where) ** -0.5, feature.shape[1]
        design = np.concatenate([scale * feature, ridge**0.5 * np.eye(size)])
        response = np.concatenate([scale * target, np.zeros(size)])
        coefficient = np.linalg.lstsq(design, response, rcond=None)[0]
        for (t, b), value in zip(where, feature @ coefficient, strict=True):
            val[n, t, b] = value
    return val


def finite_difference(f: Callable[[Params], Tensor], params: Params, eps: float = 1e-6) -> Params:
    """Central differences of scalar f(params) in every coordinate of every weight."""
    out = {}
    for name, p in params.items():
        out[name] = torch.zeros_like(p)
        for i in range(p.numel()):
            step = torch.zeros_like(p)
            step.view(-1)[i] = eps
            out[name].view(-1)[i] = directional_difference(f, params, {name: step})
        out[name] /= eps
    return out


def directional_difference(f: Callable[[Params], Tensor], params: Params, step: Params) -> Tensor:
    """(f(params + step) - f(params - step)) / 2; weights that `step` leaves out stay."""

    def shifted(sign: int) -> Tensor:
        moved = {k: p + sign * step[k] if k in step else p for k, p in params.items()}
        return f({k: p.detach().requires_grad_() for k, p in moved.items()}).detach()

    return (shifted(1) - shifted(-1)) / 2


def gradient(f: Callable[[Params], Tensor], params: Params) -> Params:
    """d f / d params; zeros where f doesn't depend on a weight."""
    live = {k: p.detach().clone().requires_grad_() for k, p in params.items()}
    grads = torch.autograd.grad(f(live), list(live.values()), materialize_grads=True)
    return dict(zip(live, grads, strict=True))


def torch_distribution(dist: Distribution) -> torch.distributions.Distribution:
    """The same distribution in torch.distributions."""
    if isinstance(dist, Gaussian):
        mean, log_std = torch.broadcast_tensors(dist.mean, dist.log_std)
        return torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)
    each = torch.distributions.Categorical(logits=dist.logits)
    several = isinstance(dist, MultiCategorical)
    return torch.distributions.Independent(each, 1) if several else each


def random_params(policy: nn.Module, gen: torch.Generator, lead: tuple[int, ...] = ()) -> Params:
    """Weights (*lead, ...) float64 of size 0.5."""
    return {
        k: 0.5 * torch.randn(*lead, *p.shape, generator=gen).double()
        for k, p in policy.named_parameters()
    }


def random_batch(
    policy: nn.Module, params: Params, gen: torch.Generator, n: int = 3, steps: int = 6
) -> Batch:
    """Data of n tasks collected with `params`, float64; task i has i steps of poisoned padding."""
    obs = torch.randn(n, steps, 2, generator=gen).double()
    dist = act_dist(policy, params, obs)
    act = dist.sample(dist.noise(gen=gen))
    adv = torch.randn(n, steps, generator=gen).double()
    mask = torch.arange(steps) < steps - torch.arange(n).unsqueeze(1)
    logp = dist.log_prob(act)
    obs[~mask], adv[~mask], logp[~mask] = POISON, POISON, -POISON
    return Batch(obs, act, logp, adv, mask.double() / mask.sum(1, keepdim=True), dist, 1)


def task_row(batch: Batch, n: int) -> Batch:
    """Task n alone, N = 1."""
    dist = type(batch.dist)(*(x if x.dim() == 1 else x[n : n + 1] for x in batch.dist))
    return Batch(*(x[n : n + 1] for x in batch[:-2]), dist, batch.episodes)


def surrogate(policy: nn.Module, params: Params, batch: Batch) -> Tensor:
    """The default inner loss of each task, (N,)."""
    return lvc(act_dist(policy, params, batch.obs).log_prob(batch.act), batch)


class WalkTask(NamedTuple):
    length: Tensor  # steps


class WalkState(NamedTuple):
    pos: Tensor  # (N, B, 2)
    clock: Tensor  # (N, B) steps taken


ANY_LENGTH = Range(1, 99, "steps")


@dataclass(frozen=True)
class Walk:
    """A noisy walk whose episode b lasts `length + b` steps; then everything is NaN or infinite."""

    length: Range = ANY_LENGTH
    discrete: bool | str = False  # "several": two keys, one for each axis
    horizon: int = 6

    name: ClassVar[str] = "walk"
    task_type: ClassVar[type] = WalkTask
    reset_noise: ClassVar[int] = 2
    step_noise: ClassVar[int] = 2
    observation_space: ClassVar[Box] = Box(-np.inf, np.inf, (2,))

    @property
    def action_space(self) -> Any:
        if self.discrete == "several":
            return MultiDiscrete([3, 2])
        return Discrete(3) if self.discrete else Box(-0.5, 0.5, (2,))

    def reset(self, task: WalkTask, noise: Tensor) -> WalkState:
        return WalkState(noise, torch.zeros(noise.shape[:2]))

    def observe(self, state: WalkState) -> Tensor:
        return state.pos

    def step(
        self, state: WalkState, act: Tensor, task: WalkTask, noise: Tensor
    ) -> tuple[WalkState, Tensor, Tensor]:
        push = act.unsqueeze(-1) if act.dim() == 2 else act
        push = push - 1.0 if self.discrete else push
        last = task.length + torch.arange(state.clock.shape[1])
        over = state.clock >= last
        pos = (state.pos + push + noise).masked_fill(over.unsqueeze(-1), float("nan"))
        rew = pos.sum(-1).masked_fill(over, float("inf"))
        # The end is told once; what comes after it must not bring an episode back to life.
        return WalkState(pos, state.clock + 1), rew, state.clock + 1 == last
