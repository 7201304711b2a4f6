"""Inner rules again, slow and from the definitions: one task, episode and step at a time."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from agents_reference import torch_distribution
from torch import Tensor, nn

from metarl.agents.learners.gradient_agent import InnerRule
from metarl.agents.networks.policy import Params, act_dist
from metarl.agents.rollouts.batch import Batch


def estimate_by_definition(name: str, lam: float, logp: Tensor, batch: Batch) -> Tensor:
    """Loss (N,) of an estimator, as a sum over the valid steps of one episode after another."""
    losses = []
    steps = logp.shape[1] // batch.episodes
    for n in range(len(logp)):
        total = torch.zeros((), dtype=logp.dtype)
        for b in range(batch.episodes):
            places = [t * batch.episodes + b for t in range(steps)]
            valid = [m for m in places if batch.weight[n, m] > 0]
            log_ratio = [logp[n, m] - batch.logp[n, m] for m in valid]
            for t, m in enumerate(valid):
                if name == "log-likelihood":
                    gain = logp[n, m]
                elif name == "lvc":
                    gain = log_ratio[t].exp()
                else:
                    before = sum((lam ** (t - s) * log_ratio[s] for s in range(t)), 0 * logp[n, m])
                    gain = (before + log_ratio[t]).exp() - before.exp()
                total = total - batch.weight[n, m] * batch.adv[n, m] * gain
        losses.append(total)
    return torch.stack(losses)


def merged(params: Params) -> Params:
    """One task's weights with a context inside the bias, and adapters inside the matrices."""
    parts = ("context", "context_weight", "lora_up", "lora_down")
    plain = {k: p for k, p in params.items() if k.split(".")[0] not in parts}
    for key in params:
        if key.startswith("lora_up."):
            i = key.split(".")[1]
            plain[f"layers.{i}.weight"] = (
                plain[f"layers.{i}.weight"] + params[key] @ params[f"lora_down.{i}"]
            )
    if "context" in params:
        shift = params["context_weight"] @ params["context"]
        plain["layers.0.bias"] = plain["layers.0.bias"] + shift
    return plain


def inner_gradient(
    plain: nn.Module, rule: InnerRule, params: Params, names: list[str], row: Batch
) -> Params:
    """What an inner step of one task descends by: the clipped gradient of `names`.

    Args:
        plain: a policy that knows neither context nor adapters.
        params: weights without a task axis.
        row: the task's data, N = 1.
    """
    live = {k: p.detach().clone().requires_grad_() for k, p in params.items()}
    dist = torch_distribution(act_dist(plain, merged(live), row.obs))
    logp = dist.log_prob(row.act)
    loss = estimate_by_definition(rule.estimator, rule.dice_lambda, logp, row).sum()
    loss = loss - rule.entropy * (dist.entropy() * row.weight).sum()
    grads = torch.autograd.grad(loss, [live[k] for k in names])
    norm = math.sqrt(sum(g.square().sum().item() for g in grads))
    clipped = rule.max_norm > 0 and norm > rule.max_norm
    scale = rule.max_norm / norm if clipped else 1.0
    return {k: scale * g for k, g in zip(names, grads, strict=True)}


def covering(levels: dict[str, Sequence[Any]], seed: int = 0) -> Iterator[dict[str, Any]]:
    """Few settings of all factors in which every two levels of two factors meet at least once."""
    draw = random.Random(seed)
    unmet = [
        ((f, a), (g, b))
        for f, g in itertools.combinations(levels, 2)
        for a in levels[f]
        for b in levels[g]
    ]
    while unmet:
        two = dict(unmet[0])
        tries = [{**{f: draw.choice(x) for f, x in levels.items()}, **two} for _ in range(40)]
        pairs = [set(itertools.combinations(one.items(), 2)) for one in tries]
        most = max(range(len(tries)), key=lambda i: len(pairs[i].intersection(unmet)))
        unmet = [pair for pair in unmet if pair not in pairs[most]]
        yield tries[most]
