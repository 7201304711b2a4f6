"""Slow references, written from the definitions one number at a time, and a way to play."""

import math
from itertools import permutations, product

import torch

from metarl.envs import FAMILIES, sample_tasks
from metarl.envs.checks import random_play
from metarl.envs.checks.contract import splits_of
from metarl.envs.checks.random_play import play as play  # for other modules

# Those that are tensor programs; the others have a simulator, and tests, of their own.
TENSOR = {
    name: cls
    for name, cls in FAMILIES.items()
    if hasattr(cls, "task_type") and not hasattr(cls, "simulate")
}


def draw(family, n=4, split="train", seed=0):
    return sample_tasks(family, n, torch.Generator().manual_seed(seed), split)


def splits(family):
    return splits_of(family)


def random_acts(family, shape, seed=0):
    return random_play.random_acts(family.action_space, shape, seed)


def walk_by_definition(goal, acts):
    """Positions, rewards and length of one walk to `goal`, each axis's velocity clipped to 0.1."""
    x = y = 0.0
    places, rewards = [], []
    for ax, ay in acts:
        x += min(max(ax, -0.1), 0.1)
        y += min(max(ay, -0.1), 0.1)
        places.append((x, y))
        rewards.append(-math.sqrt((goal[0] - x) ** 2 + (goal[1] - y) ** 2))
        if abs(goal[0] - x) < 0.01 and abs(goal[1] - y) < 0.01:
            break
    return places, rewards, len(rewards)


MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
WIRINGS = list(permutations(MOVES))  # WIRINGS[keys][key] is the move that the key makes


class ForagerByDefinition:
    """One game in the world's own frame: a grid that stands still and an agent that walks on it."""

    def __init__(self, cells, worth, keys, size):
        self.size, self.worth, self.wiring = size, (0.0, *worth), WIRINGS[keys]
        self.row = self.column = size // 2
        self.grid = [cells[i * size : (i + 1) * size] for i in range(size)]

    def around(self):
        """The grid's coordinates in the agent's order: row by row, the agent in the middle."""
        n, half = self.size, self.size // 2
        for i, j in product(range(n), repeat=2):
            yield (self.row + i - half) % n, (self.column + j - half) % n

    def step(self, key, noise):
        """Reward of a key; what is eaten grows again on one of the empty cells."""
        down, right = MOVES[self.wiring[key]]
        self.row, self.column = (self.row + down) % self.size, (self.column + right) % self.size
        eaten, self.grid[self.row][self.column] = self.grid[self.row][self.column], 0
        here = (self.row, self.column)
        empty = [(r, c) for r, c in self.around() if self.grid[r][c] == 0 and (r, c) != here]
        row, column = empty[math.floor(noise * len(empty))]
        self.grid[row][column] = eaten
        return self.worth[eaten]

    def cells(self):
        return [self.grid[r][c] for r, c in self.around()]

    def planes(self, view):
        """[kind][row][column] of what the agent sees."""
        reach = range(-(view // 2), view // 2 + 1)
        rows = [self.grid[(self.row + i) % self.size] for i in reach]
        seen = [[row[(self.column + j) % self.size] for j in reach] for row in rows]
        return [[[float(kind == k) for kind in row] for row in seen] for k in (1, 2, 3)]

    def best(self, first, length):
        """Most that `length` moves can eat if they begin with `first` and nothing grows again."""
        found = []
        for rest in product(MOVES, repeat=length - 1):
            row, column, seen, total = self.row, self.column, {(self.row, self.column)}, 0.0
            for k, move in enumerate((first, *rest)):
                row = (row + MOVES[move][0]) % self.size
                column = (column + MOVES[move][1]) % self.size
                if (row, column) not in seen:
                    total += 0.9**k * self.worth[self.grid[row][column]]
                seen.add((row, column))
            found.append(total)
        return max(found)
