"""Recurrent cells: one step, and a whole sequence fast; M sequences side by side."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

CellKind = Literal["gru", "fwp"]


class GRU(nn.Module):
    """Gated recurrent unit; its state is its output.

    Source: Cho et al. 2014 (arXiv:1406.1078), in torch's variant; as a memory for reinforcement
        learning: RL², Duan et al. 2016 (arXiv:1611.02779).
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.state_shape = (units,)
        self.block = units  # rows of a weight that are initialised together: one gate's
        self.input = nn.utils.skip_init(nn.Linear, inputs, 3 * units)
        self.recurrent = nn.utils.skip_init(nn.Linear, units, 3 * units)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Output (M, units) and next state after x (M, inputs)."""
        new = torch.gru_cell(x, state, *self._weights())
        return new, new

    def sequence(self, x: Tensor, state: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (T, M, units) and the state after the last living step.

        Args:
            x: (T, M, inputs).
            alive: (T, M) 1.0 in each sequence's first steps, then 0.0.
        """
        out, _ = torch.gru(
            x, state.unsqueeze(0), self._weights(), True, 1, 0.0, False, False, False
        )
        return out, last_living(state, out, alive)

    def _weights(self) -> list[Tensor]:
        return [
            self.input.weight,
            self.recurrent.weight,
            self.input.bias,
            self.recurrent.bias,
        ]


CELLS = {"gru": GRU}


def last_living(start: Tensor, path: Tensor, alive: Tensor) -> Tensor:
    """What stood after the last living step, (M, ...): start (M, ...) or an entry of the path.

    Args:
        path: (T, M, ...) after each step.
        alive: (T, M) 1.0 in each sequence's first steps, then 0.0.
    """
    count = alive.sum(0).long().view(1, -1, *(1,) * (start.dim() - 1))
    return torch.cat((start.unsqueeze(0), path)).take_along_dim(count, 0).squeeze(0)
