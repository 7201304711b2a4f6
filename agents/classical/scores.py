"""Returns of classical methods in the same trials, for comparison with an agent that adapts."""

from __future__ import annotations

from typing import Any

import torch

from metarl.agents.classical import bandits as bandit_rules
from metarl.agents.classical import psrl as posterior_sampling
from metarl.envs import Family
from metarl.envs.bandits.bandit import Bandit
from metarl.envs.bandits.tabular_mdp import TabularMDP


def comparators(
    family: Family,
    task: Any,
    episodes_in_trial: int,
    trials: int,
    gen: torch.Generator | None = None,
) -> dict[str, float]:
    """Mean total reward per trial of each method over all tasks; empty if no method applies.

    Each method runs `trials` trials of `episodes_in_trial` episodes in each of the N tasks, and
    keeps its statistics within a trial.
    """
    size = (episodes_in_trial, trials, gen)
    if isinstance(family, Bandit) and not family.gaussian:
        return {
            name: bandit_rules.play(family, task, rule, *size).mean().item()
            for name, rule in bandit_rules.RULES.items()
        }
    if isinstance(family, TabularMDP):
        return {
            name: posterior_sampling.play(family, task, planner, prior, *size).mean().item()
            for name, (planner, prior) in posterior_sampling.PLANNERS.items()
        }
    return {}
