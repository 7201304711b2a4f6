"""The metrics of a meta-iteration, read from the device at once."""

from __future__ import annotations

import torch

from metarl.update import Update


def measure(update: Update) -> dict[str, float]:
    """All metrics in one transfer: the only wait for the device in most meta-iterations.

    Beside those that are tracked: `env_steps` of this iteration, and `finite`, 0 where a family
    gave a NaN or infinity.
    """
    before = [rollouts[0] for _, rollouts in update.played]
    after = [rollouts[-1] for _, rollouts in update.played]
    everything = [r for _, rollouts in update.played for r in rollouts]
    values = {
        "train/return_before": torch.cat([r.episode_return() for r in before]).mean(),
        "train/return_after": torch.cat([r.episode_return() for r in after]).mean(),
        **update.metrics,
    }
    values["train/adaptation_gain"] = values["train/return_after"] - values["train/return_before"]
    if "success" in before[0].notes:
        for name, rollouts in (("before", before), ("after", after)):
            values[f"train/success_{name}"] = torch.cat(
                [r.notes["success"] for r in rollouts]
            ).mean()
    diverged = [r.notes["diverged"].sum() for r in everything if "diverged" in r.notes]
    nothing = torch.zeros_like(values["train/return_before"])
    values["train/diverged"] = torch.stack(diverged or [nothing]).sum()
    values["env_steps"] = torch.stack([r.alive.sum() for r in everything]).sum()
    values["finite"] = torch.stack(
        [x.isfinite().all() for r in everything for x in (r.obs, r.rew)]
    ).all()
    numbers = torch.stack([v.double() for v in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))
