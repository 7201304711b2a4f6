"""Recurrent cells that process one step, or a whole batch of M sequences."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from metarl.agents.networks.policy import affine, blank

CellKind = Literal["gru", "fwp"]


class GRU(nn.Module):
    """Gated recurrent unit; its state is its output.

    Source: Cho et al. 2014 (arXiv:1406.1078), in torch's variant; used for meta-reinforcement
        learning by RL², Duan et al. 2016 (arXiv:1611.02779).
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.state_shape = (units,)
        self.block = units  # rows of a weight that are initialized together: one gate's
        self.input = blank(nn.Linear, inputs, 3 * units)
        self.recurrent = blank(nn.Linear, units, 3 * units)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Output (M, units) and next state after x (M, inputs)."""
        new = torch.gru_cell(x, state, *self._weights())
        return new, new

    def sequence(self, x: Tensor, state: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (T, M, units) and the state after each sequence's last valid step.

        Args:
            x: (T, M, inputs).
            mask: (T, M) 1.0 for valid steps, then 0.0 for padding.
        """
        out, _ = torch.gru(
            x, state.unsqueeze(0), self._weights(), True, 1, 0.0, False, False, False
        )
        return out, last_valid(state, out, mask)

    def _weights(self) -> list[Tensor]:
        return [
            self.input.weight,
            self.recurrent.weight,
            self.input.bias,
            self.recurrent.bias,
        ]


class FWP(nn.Module):
    """Fast-weight programmer: each step writes to, then reads from, one matrix per head.

    Keys, queries, values and write strengths are computed from the current and the previous input,
    so that a step can store the previous observation, the action taken there and its outcome. The
    value read passes through a residual and a feed-forward layer, as in a transformer.

    Source: the delta rule of Schlag et al. 2021 (arXiv:2102.11174), section 4.2, with the softmax
        feature map of Irie et al. 2021 (arXiv:2106.06295).
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.heads = max(1, units // HEAD)
        self.size = units // self.heads
        self.written = self.heads * self.size**2
        self.state_shape = (self.written + inputs,)  # the matrices and the previous input
        self.block = units
        wide = self.heads * self.size
        self.encoder, self.program, self.read, self.up, self.down = (
            blank(nn.Linear, i, o)
            for i, o in (
                (2 * inputs, units),
                (units, 3 * wide + self.heads),
                (wide, units),
                (units, 2 * units),
                (2 * units, units),
            )
        )

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Output (M, units) and next state after x (M, inputs)."""
        weight, previous = self._unpack(state)
        encoded = self._encode(previous, x)
        key, query, value, beta = self._program(encoded)
        old = (weight @ key.unsqueeze(-1)).squeeze(-1)
        change = beta.unsqueeze(-1) * (value - old)
        weight = weight + change.unsqueeze(-1) * key.unsqueeze(-2)  # W + beta (v - W k) k^T
        read = (weight @ query.unsqueeze(-1)).squeeze(-1)
        return self._output(encoded, read), torch.cat((weight.flatten(1), x), dim=-1)

    def sequence(self, x: Tensor, state: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (T, M, units) and the state after each sequence's last valid step.

        Args:
            x: (T, M, inputs).
            mask: (T, M) 1.0 for valid steps, then 0.0 for padding.
        """
        weight, previous = self._unpack(state)
        encoded = self._encode(torch.cat((previous.unsqueeze(0), x[:-1])), x)
        key, query, value, beta = self._program(encoded)
        beta = beta * mask.unsqueeze(-1)  # padding writes nothing
        reads = []
        for chunk in zip(*(y.split(CHUNK) for y in (key, query, value, beta)), strict=True):
            # (T, M, heads, ...) -> (M, heads, T, ...)
            read, weight = delta_rule(weight, *(y.movedim(0, 2) for y in chunk))
            reads.append(read.movedim(2, 0))
        new = torch.cat((weight.flatten(1), last_valid(previous, x, mask)), dim=-1)
        return self._output(encoded, torch.cat(reads)), new

    def _unpack(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Fast weights (M, heads, size, size) and previous input (M, inputs)."""
        weight = state[:, : self.written].unflatten(1, (self.heads, self.size, self.size))
        return weight, state[:, self.written :]

    def _encode(self, previous: Tensor, x: Tensor) -> Tensor:
        return _linear(self.encoder, torch.cat((previous, x), dim=-1)).tanh()

    def _program(self, encoded: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Key, query, value (..., heads, size); write strength (..., heads)."""
        out = _linear(self.program, encoded)
        kqv, beta = out[..., : -self.heads], out[..., -self.heads :]
        key, query, value = kqv.unflatten(-1, (3, self.heads, self.size)).unbind(-3)
        return key.softmax(-1), query.softmax(-1), value, beta.sigmoid()

    def _output(self, encoded: Tensor, read: Tensor) -> Tensor:
        y = encoded + _linear(self.read, read.flatten(-2))
        normalized = nn.functional.layer_norm(y, y.shape[-1:])
        return y + _linear(self.down, _linear(self.up, normalized).relu())


def delta_rule(
    weight: Tensor, key: Tensor, query: Tensor, value: Tensor, beta: Tensor
) -> tuple[Tensor, Tensor]:
    """Reads W q after each of T updates W += beta (v - W k) k^T, (M, heads, T, size), and final W.

    All steps are computed at once: W_t = W_0 + sum_{s <= t} u_s k_s^T, where the u solve one
    triangular system, u_t + beta_t sum_{s < t} (k_s . k_t) u_s = beta_t (v_t - W_0 k_t).

    Args:
        weight: (M, heads, size, size) W_0.
        key, query, value: (M, heads, T, size).
        beta: (M, heads, T).

    Source: the parallel form of Yang et al. 2024 (arXiv:2406.06484), section 3.
    """
    strength = beta.unsqueeze(-1)
    overlap = (strength * (key @ key.mT)).tril(-1)
    error = strength * (value - key @ weight.mT)
    u = torch.linalg.solve_triangular(overlap, error, upper=False, unitriangular=True)
    read = query @ weight.mT + (query @ key.mT).tril() @ u
    return read, weight + u.mT @ key


Cell = GRU | FWP
CELLS: dict[CellKind, type[Cell]] = {"gru": GRU, "fwp": FWP}
HEAD = 16  # units per head
CHUNK = 32  # steps per triangular system: larger systems are slow, smaller ones need more loops


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    return affine(x, layer.weight, layer.bias)  # type: ignore[arg-type]


def last_valid(start: Tensor, path: Tensor, mask: Tensor) -> Tensor:
    """Value after the last valid step of each sequence, (M, ...); `start` if it has none.

    Args:
        start: (M, ...) value before the first step.
        path: (T, M, ...) value after each step.
        mask: (T, M) 1.0 for valid steps, then 0.0 for padding.
    """
    count = mask.sum(0).long().view(1, -1, *(1,) * (start.dim() - 1))
    return torch.cat((start.unsqueeze(0), path)).take_along_dim(count, 0).squeeze(0)
