"""The tensors that a checkpoint must contain for a run's agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.agents.learners.recurrent_agent import AnyAgent
from metarl.config.settings import TrainConfig
from metarl.envs import Family, UsageError
from metarl.outer.functional_adam import MOMENTS
from metarl.outer.train_state import named_weights
from metarl.outer.update import trained_weights

ADAM = ("gradient", "implicit", "reptile", "es")  # outer rules that use Adam


class Kind(NamedTuple):
    """The expected shape and dtype of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    positive: bool = False  # all elements are >= 0


def expected(
    cfg: TrainConfig, agent: AnyAgent, family: Family, learned: bool, found: Iterable[str]
) -> dict[str, Kind | None]:
    """All tensors of a checkpoint, by name.

    Args:
        learned: at least one update was made, so the optimizer has moments.
        found: names in the checkpoint. A run without updates may have moments of observations from
            a `VecNormalize`; a custom outer rule may have tensors of any name.
    """
    weights = {k: Kind(tuple(w.shape), w.dtype) for k, w in named_weights(agent).items()}
    want: dict[str, Kind | None] = {f"weights/{k}": kind for k, kind in weights.items()}
    if learned:
        moved = moved_by_adam(cfg, agent)
        want |= _adam(weights, moved) if moved is not None else _of_custom(weights, found)
    shapes = {"obs": tuple(family.observation_space.shape or ()), "ret": ()}
    for group, on in {"obs": cfg.normalize_obs, "ret": cfg.normalize_return}.items():
        if on and (learned or any(name.startswith(f"seen/{group}/") for name in found)):
            want[f"seen/{group}/steps"] = Kind((), torch.float64, positive=True)
            want[f"seen/{group}/mean"] = Kind(shapes[group], torch.float64)
            want[f"seen/{group}/var"] = Kind(shapes[group], torch.float64, positive=True)
    return want


def moved_by_adam(cfg: TrainConfig, agent: AnyAgent) -> list[str] | None:
    """Names of the weights that Adam updates; None for a custom outer rule."""
    weights = named_weights(agent)
    baseline = [k for k in weights if k.startswith("value/")]
    if cfg.outer in ADAM:
        return [*trained_weights(cfg, agent), *baseline]  # type: ignore[arg-type]
    return {"ppo": list(weights), "trpo": baseline}.get(cfg.outer)


def _adam(weights: Mapping[str, Kind], moved: Iterable[str]) -> dict[str, Kind | None]:
    """Adam's moments of the given weights."""
    kinds: dict[str, Kind | None] = {}
    for k in moved:
        kinds[f"opt/{k}/step"] = Kind((), torch.float32, positive=True)
        kinds[f"opt/{k}/exp_avg"] = weights[k]
        kinds[f"opt/{k}/exp_avg_sq"] = weights[k]._replace(positive=True)
    return kinds


def _of_custom(weights: Mapping[str, Kind], found: Iterable[str]) -> dict[str, Kind | None]:
    """Adam's moments of weights that have them; other tensors of the rule are unconstrained."""
    names = {name for name in found if name.startswith("opt/")}
    moved = [k for k in weights if any(f"opt/{k}/{q}" in names for q in MOMENTS)]
    return {**dict.fromkeys(names), **_adam(weights, moved)}


def check_tensors(
    path: Path,
    want: Mapping[str, Kind | None],
    found: Mapping[str, Tensor],
    advice: str,
    remedy: str = "give the family and settings that the run was started with.",
) -> None:
    """Raise UsageError that names the first tensor that is missing, unexpected or invalid.

    This must run before any computation: Adam's fused kernel doesn't check shapes.

    Args:
        want: None for a tensor whose shape and dtype are not known.
        advice: what to do about a damaged file.
        remedy: what to do about a tensor of another shape.
    """
    for name in sorted(want.keys() | found.keys(), key=lambda k: (not k.startswith("weights/"), k)):
        kind, where = want.get(name), f"{path}: {name.removeprefix('weights/')}"
        have = tuple(found[name].shape) if name in found else "missing"
        need = "not wanted" if name not in want else kind.shape if kind else have
        if have != need:
            raise UsageError(f"{where} is {have}, this family and network need {need}: {remedy}")
        if reason := _invalid(found[name], kind):
            raise UsageError(f"{where} {reason}: {advice}")


def _invalid(x: Tensor, kind: Kind | None) -> str:
    if kind and x.dtype != kind.dtype:
        have, need = (str(dtype).removeprefix("torch.") for dtype in (x.dtype, kind.dtype))
        return f"holds {have} in place of {need}"
    if not x.isfinite().all():
        return "holds a number that is not finite"
    return "holds a number below 0" if kind and kind.positive and (x < 0).any() else ""
