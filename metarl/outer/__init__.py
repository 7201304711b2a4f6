"""Outer rules: what one iteration's tasks make of the slow weights."""

from __future__ import annotations

from collections.abc import Callable

from metarl.outer import evolution, gradient, implicit, reptile, trials, trpo
from metarl.update import Update

# (cfg, agent, opt, family, task, gen, mark) -> Update
Outer = Callable[..., Update]

OUTER: dict[str, Outer] = {
    "gradient": gradient.improve,
    "implicit": implicit.improve,
    "trpo": trpo.improve,
    "ppo": trials.improve,
    "reptile": reptile.improve,
    "es": evolution.improve,
}
