"""Networks of a user's own, `custom_networks:NAME`."""

import math

import torch
from torch import nn


class Normed(nn.Module):
    """A perceptron with layer normalization."""

    def __init__(self, observation_space, out):
        super().__init__()
        size = math.prod(observation_space.shape)
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(size, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, out)
        )

    def forward(self, obs):
        return self.net(obs)


class Attention(nn.Module):
    """Numbers of an observation attend to each other."""

    def __init__(self, observation_space, out):
        super().__init__()
        self.embed = nn.Linear(1, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(4, out)

    def forward(self, obs):
        x = self.embed(obs.flatten(1).unsqueeze(-1))
        return self.out(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Convolutions(nn.Module):
    """Two convolutions over an image (C, H, W)."""

    def __init__(self, observation_space, out):
        super().__init__()
        channels, *_ = observation_space.shape
        self.net = nn.Sequential(
            *(nn.Conv2d(channels, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3, stride=2), nn.Tanh()),
            *(nn.Flatten(), nn.LazyLinear(out)),
        )
        self.net(torch.zeros(1, *observation_space.shape))

    def forward(self, obs):
        return self.net(obs)


def perceptron(observation_space, out):
    """The layers of metarl's own."""
    sizes = math.prod(observation_space.shape), 64, 64, out
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(*sizes[:2]), nn.Tanh(), nn.Linear(*sizes[1:3]), nn.Tanh()),
        nn.Linear(*sizes[2:]),
    )


def too_wide(observation_space, out):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(observation_space.shape), out + 1))


def batch_normed(observation_space, out):
    size = math.prod(observation_space.shape)
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(size), nn.Linear(size, out))


def with_dropout(observation_space, out):
    size = math.prod(observation_space.shape)
    return nn.Sequential(nn.Flatten(), nn.Linear(size, out), nn.Dropout(0.1))


def without_weights(observation_space, out):
    return nn.Flatten()


def not_a_module(observation_space, out):
    return observation_space


def failing(observation_space, out):
    raise RuntimeError("no such luck")


def depends_on_data(observation_space, out):
    class Branching(nn.Linear):
        def forward(self, obs):
            x = super().forward(obs)
            return x if x.sum() > 0 else -x

    return Branching(math.prod(observation_space.shape), out)


NUMBER = 3
