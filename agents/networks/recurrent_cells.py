"""Recurrent cells: one step, and a whole sequence fast; M sequences side by side."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from metarl.agents.networks.policy import affine, blank

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
        self.input = blank(nn.Linear, inputs, 3 * units)
        self.recurrent = blank(nn.Linear, units, 3 * units)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Output (M, units) and next state after x (M, inputs)."""
        new = torch.gru_cell(x, state, *self._weights())
        return new, new

    def sequence(self, x: Tensor, state: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (T, M, units) and the state after the last living step.

        Args:
            x: (T, M, inputs).
            alive: (T, M) 1.0 in each sequence's first steps, then 0.0.
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
    """A fast-weight programmer: each step writes into, then reads from, a matrix a head.

    Keys, queries, values and write strengths come from the present and the last input, so that a
    step can store where it was before, what it did there and what that brought. What is read goes
    through a residual and a feed-forward layer, as in a transformer.
    Source: the delta rule of Schlag et al. 2021 (arXiv:2102.11174), section 4.2, with the softmax
        feature map of Irie et al. 2021 (arXiv:2106.06295).
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.heads = max(1, units // HEAD)
        self.size = units // self.heads
        self.written = self.heads * self.size**2
        self.state_shape = (self.written + inputs,)  # the matrices, and the last input
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
        weight, before = self._unpack(state)
        seen = self._encode(before, x)
        key, query, value, beta = self._program(seen)
        old = (weight @ key.unsqueeze(-1)).squeeze(-1)
        change = beta.unsqueeze(-1) * (value - old)
        weight = weight + change.unsqueeze(-1) * key.unsqueeze(-2)  # W + beta (v - W k) k^T
        read = (weight @ query.unsqueeze(-1)).squeeze(-1)
        return self._output(seen, read), torch.cat((weight.flatten(1), x), dim=-1)

    def sequence(self, x: Tensor, state: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (T, M, units) and the state after the last living step.

        Args:
            x: (T, M, inputs).
            alive: (T, M) 1.0 in each sequence's first steps, then 0.0.
        """
        weight, last = self._unpack(state)
        seen = self._encode(torch.cat((last.unsqueeze(0), x[:-1])), x)
        key, query, value, beta = self._program(seen)
        beta = beta * mask.unsqueeze(-1)  # writes nothing after the end
        reads = []
        for chunk in zip(*(y.split(CHUNK) for y in (key, query, value, beta)), strict=True):
            # (T, M, heads, ...) -> (M, heads, T, ...)
            read, weight = delta_rule(weight, *(y.movedim(0, 2) for y in chunk))
            reads.append(read.movedim(2, 0))
        new = torch.cat((weight.flatten(1), last_valid(last, x, mask)), dim=-1)
        return self._output(seen, torch.cat(reads)), new

    def _unpack(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Fast weights (M, heads, size, size) and last input (M, inputs)."""
        weight = state[:, : self.written].unflatten(1, (self.heads, self.size, self.size))
        return weight, state[:, self.written :]

    def _encode(self, before: Tensor, x: Tensor) -> Tensor:
        return _linear(self.encoder, torch.cat((before, x), dim=-1)).tanh()

    def _program(self, seen: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Key, query, value (..., heads, size); write strength (..., heads)."""
        out = _linear(self.program, seen)
        three, beta = out[..., : -self.heads], out[..., -self.heads :]
        key, query, value = three.unflatten(-1, (3, self.heads, self.size)).unbind(-3)
        return key.softmax(-1), query.softmax(-1), value, beta.sigmoid()

    def _output(self, seen: Tensor, read: Tensor) -> Tensor:
        y = seen + _linear(self.read, read.flatten(-2))
        normal = nn.functional.layer_norm(y, y.shape[-1:])
        return y + _linear(self.down, _linear(self.up, normal).relu())


def delta_rule(
    weight: Tensor, key: Tensor, query: Tensor, value: Tensor, beta: Tensor
) -> tuple[Tensor, Tensor]:
    """What T steps of W += beta (v - W k) k^T and then W q read, and the last W.

    All steps at once: W_t = W_0 + sum_{s <= t} u_s k_s^T, where the u solve one triangular system,
    u_t + beta_t sum_{s < t} (k_s . k_t) u_s = beta_t (v_t - W_0 k_t).
    Args:
        weight: (M, heads, size, size) W_0.
        key, query, value: (M, heads, T, size).
        beta: (M, heads, T).
    Source: the parallel form of Yang et al. 2024 (arXiv:2406.06484), section 3.
    """
    strength = beta.unsqueeze(-1)
    overlap = (strength * (key @ key.mT)).tril(-1)
    surprise = strength * (value - key @ weight.mT)
    u = torch.linalg.solve_triangular(overlap, surprise, upper=False, unitriangular=True)
    read = query @ weight.mT + (query @ key.mT).tril() @ u
    return read, weight + u.mT @ key


Cell = GRU | FWP
CELLS: dict[CellKind, type[Cell]] = {"gru": GRU, "fwp": FWP}
HEAD = 16  # units of a head
CHUNK = 32  # steps at once: more would make the triangular systems slow, fewer the loop


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    return affine(x, layer.weight, layer.bias)  # type: ignore[arg-type]


def last_valid(start: Tensor, path: Tensor, mask: Tensor) -> Tensor:
    """What stood after the last living step, (M, ...): start (M, ...) or an entry of the path.

    Args:
        path: (T, M, ...) after each step.
        alive: (T, M) 1.0 in each sequence's first steps, then 0.0.
    """
    count = mask.sum(0).long().view(1, -1, *(1,) * (start.dim() - 1))
    return torch.cat((start.unsqueeze(0), path)).take_along_dim(count, 0).squeeze(0)
