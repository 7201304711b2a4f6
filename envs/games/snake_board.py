"""Lookup tables of a snake's moves, for boards of every size with and without walls."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.envs.core.lookup_tables import table

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # rows and columns: up, right, down, left
BORN = 3  # cells of a new snake


class Tables(NamedTuple):
    """Tables for planes of C cells, by board size from 0 to `plane` and without or with wrap."""

    board: Tensor  # (plane + 1, C) whether a cell belongs to the board
    leads: Tensor  # (plane + 1, 2, C, 4) next cell after a move, -1 for a wall
    near: Tensor  # (plane + 1, 2, C, C) 0.8 ** distance
    window: Tensor  # (C, C) cells of the plane centered on each cell; index C is outside
    here: Tensor  # (C, C) one-hot encoding of each cell
    born: Tensor  # (C,) initial snake


@table
def board_tables(plane: int, device: torch.device) -> Tables:
    """Tables for the moves and observations of a snake, cached per device."""
    cells, middle = plane * plane, plane // 2
    row, column = np.divmod(np.arange(cells), plane)
    board = np.zeros((plane + 1, cells), bool)
    leads = np.full((plane + 1, 2, cells, 4), -1)
    near = np.zeros((plane + 1, 2, cells, cells))
    for size, wrap in product(range(1, plane + 1), (0, 1)):
        first = (plane - size) // 2
        r, c = row - first, column - first
        board[size] = _inside(r, c, size)
        for move, (down, across) in enumerate(MOVES):
            y, x = r + down, c + across
            there = (y % size + first) * plane + x % size + first
            goes = board[size] & (_inside(y, x, size) | bool(wrap))
            leads[size, wrap, :, move] = np.where(goes, there, -1)
        apart = [abs(x[:, None] - x) for x in (row, column)]
        near[size, wrap] = 0.8 ** sum(np.minimum(d, abs(size - d)) if wrap else d for d in apart)
    reach = range(-middle, middle + 1)
    shifted = [(row + i, column + j) for i, j in product(reach, repeat=2)]
    window = np.stack(
        [np.where(_inside(y, x, plane), y * plane + x, cells) for y, x in shifted], axis=-1
    )
    born = np.zeros(cells, int)
    born[cells // 2 - np.arange(BORN)] = BORN - np.arange(BORN)
    tables = (board, leads, near, window, np.eye(cells, dtype=bool), born)
    return Tables(*(torch.from_numpy(x).to(device) for x in tables))


def _inside(row: np.ndarray[Any, Any], column: np.ndarray[Any, Any], side: int) -> Any:
    return (np.minimum(row, column) >= 0) & (np.maximum(row, column) < side)
