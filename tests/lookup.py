"""A family in which what an item calls for is a product of observation and task."""

from collections import namedtuple
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

import metarl

ITEMS = 8
NAMES = [f"wants_{i}" for i in range(ITEMS)]
Task = namedtuple("Task", NAMES)


class State(NamedTuple):
    item: Tensor  # (N, B)
    wants: Tensor  # (N, B, ITEMS) 0 or 1


@dataclass(frozen=True)
class Lookup:
    """One of eight items a step; each task wants one of two actions for each of them: +1, else 0.

    Told the task, one gets `horizon`; not told, half of it.
    """

    reveal: bool = False  # the task in the observation, as further inputs
    horizon: int = 10
    name: ClassVar[str] = "lookup"
    task_type: ClassVar[type] = Task
    parameters: ClassVar = dict.fromkeys(NAMES, metarl.Choice((0.0, 1.0)))
    reset_noise: ClassVar[int] = 1
    step_noise: ClassVar[int] = 1
    action_space: ClassVar[Discrete] = Discrete(2)

    @property
    def observation_space(self):
        return Box(-1, 1, (2 * ITEMS if self.reveal else ITEMS,))

    def reset(self, task, noise):
        item = (noise[..., 0] * ITEMS).long()
        return State(item, torch.stack(task, dim=-1).expand(*item.shape, ITEMS))

    def observe(self, state):
        hot = torch.nn.functional.one_hot(state.item, ITEMS).float()
        return torch.cat((hot, 2 * state.wants - 1), dim=-1) if self.reveal else hot

    def step(self, state, act, task, noise):
        wanted = state.wants.gather(-1, state.item.unsqueeze(-1)).squeeze(-1)
        rew = (wanted == act).float()
        return self.reset(task, noise), rew, torch.zeros_like(rew, dtype=torch.bool)
