"""A tiny world of pictures, for tests of what sees them."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space
from torch import Tensor

from metarl.envs import Choice


class LampTask(NamedTuple):
    wiring: Tensor  # which key goes with the first quarter


class LampState(NamedTuple):
    quarter: Tensor  # (N, B) where the light is: 0 and 1 above, 2 and 3 below
    clock: Tensor  # (N, B) steps taken


WIRINGS = Choice((0.0, 1.0, 2.0, 3.0))


@dataclass(frozen=True)
class Lamp:
    """One quarter of the picture is lit; the key for it, shifted by the wiring, is paid."""

    wiring: Choice = WIRINGS
    size: int = 8
    bytes: bool = False
    several: bool = False  # two binary digits of the key instead of the key
    horizon: int = 6

    name: ClassVar[str] = "lamp"
    task_type: ClassVar[type] = LampTask
    reset_noise: ClassVar[int] = 1
    step_noise: ClassVar[int] = 1

    @property
    def observation_space(self) -> Box:
        shape = (2, self.size, self.size)
        return Box(0, 255, shape, np.uint8) if self.bytes else Box(0, 1, shape)

    @property
    def action_space(self) -> Space:
        return MultiDiscrete([2, 2]) if self.several else Discrete(4)

    def reset(self, task: LampTask, noise: Tensor) -> LampState:
        quarter = (4 * noise[..., 0]).long()
        return LampState(quarter, torch.zeros_like(quarter))

    def observe(self, state: LampState) -> Tensor:
        half = torch.arange(self.size, device=state.quarter.device) >= self.size // 2
        below, right = state.quarter // 2 == 1, state.quarter % 2 == 1
        rows = below[..., None, None] == half.unsqueeze(-1)
        lit = (rows & (right[..., None, None] == half)).float()
        planes = torch.stack((lit, 0.5 * (1 - lit)), dim=2)
        return (planes * 255).to(torch.uint8) if self.bytes else planes

    def step(
        self, state: LampState, act: Tensor, task: LampTask, noise: Tensor
    ) -> tuple[LampState, Tensor, Tensor]:
        key = 2 * act[..., 0] + act[..., 1] if self.several else act
        rew = (key == (state.quarter + task.wiring.long()) % 4).to(noise.dtype)
        nxt = LampState((4 * noise[..., 0]).long(), state.clock + 1)
        return nxt, rew, nxt.clock >= self.horizon
