"""The metrics of a meta-iteration, read from the device in one transfer."""

from __future__ import annotations

import torch

from metarl.distributed.collectives import all_reduce, all_reduce_mean
from metarl.outer.update import Update


def measure(update: Update) -> dict[str, float]:
    """Reduce all metrics over ranks and read them in one transfer.

    In most meta-iterations this is the only synchronization with the device. In addition to the
    tracked metrics, the result has `env_steps` of this iteration, and `not_finite`, which is above
    0 if a family produced a NaN or infinity.
    """
    before = [rollouts[0] for _, rollouts in update.collected]
    after = [rollouts[-1] for _, rollouts in update.collected]
    everything = [r for _, rollouts in update.collected for r in rollouts]
    values = {
        "train/return_before": all_reduce_mean(torch.cat([r.episode_return() for r in before])),
        "train/return_after": all_reduce_mean(torch.cat([r.episode_return() for r in after])),
        **update.metrics,
    }
    values["train/episode_length"] = all_reduce_mean(
        torch.cat([r.mask.sum(dim=1).to(r.rew.dtype) for r in after])
    )
    values["train/adaptation_gain"] = values["train/return_after"] - values["train/return_before"]
    if "success" in before[0].notes:
        for name, rollouts in (("before", before), ("after", after)):
            values[f"train/success_{name}"] = all_reduce_mean(
                torch.cat([r.notes["success"] for r in rollouts])
            )
    zero = torch.zeros_like(values["train/return_before"])
    counts = {
        "train/diverged": [r.notes["diverged"].sum() for r in everything if "diverged" in r.notes],
        "env_steps": [r.mask.sum() for r in everything],
        "not_finite": [~x.isfinite().all() for r in everything for x in (r.obs, r.rew)],
    }
    sums = all_reduce(*(torch.stack([zero, *c]).double().sum() for c in counts.values()))
    values |= dict(zip(counts, sums, strict=True))
    numbers = torch.stack([v.double() for v in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))
