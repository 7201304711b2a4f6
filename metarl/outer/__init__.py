"""Outer rules: how one iteration's experience updates the slow weights."""

from __future__ import annotations

from collections.abc import Callable

from metarl.outer import es, imaml, maml, recurrent_ppo, reptile, trpo
from metarl.outer.update import Update

# (cfg, agent, opt, family, task, gen, on_phase_end) -> Update
Outer = Callable[..., Update]

OUTER: dict[str, Outer] = {
    "gradient": maml.improve,
    "implicit": imaml.improve,
    "trpo": trpo.improve,
    "ppo": recurrent_ppo.improve,
    "reptile": reptile.improve,
    "es": es.improve,
}
