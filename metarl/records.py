"""What there is to say of a family, asked of the family itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from envs import FAMILIES, Family, UsageError, gymnasium_id, make_family, parameters, unseen
from envs.family import allowed


def usable() -> Iterator[str]:
    """Families whose packages are here."""
    for name in FAMILIES:
        try:
            make_family(name)
        except UsageError:
            continue
        yield name


def record(name: str) -> dict[str, Any]:
    """What `metarl families` says of one; where its package isn't here, what installs it."""
    try:
        family = make_family(name)
    except UsageError as error:  # a package that isn't installed; an unknown name is not listed
        if name not in FAMILIES:
            raise
        return {"name": name, "needs": str(error)}
    told: dict[str, Any] = {
        "name": name,
        "about": _about(family),
        "source": getattr(family, "source", "your own"),
        "unseen": unseen(family),
        "validation": unseen(family, "validation"),
        "parameters": {
            k: {"unit": p.unit, "train": str(p), "allowed": allowed(p)}
            for k, p in parameters(family).items()
        },
    }
    if not hasattr(family, "recipe"):  # a Gymnasium environment's are known once it was made
        told |= {
            "horizon": family.horizon,
            "observation_space": str(family.observation_space),
            "action_space": str(family.action_space),
        }
    if not hasattr(family, "simulate"):
        told["gymnasium_id"] = gymnasium_id(family)
    return told


def _about(family: Family) -> str:
    about = getattr(family, "about", None) or type(family).__doc__ or ""
    return str(about).strip().split("\n")[0]
