"""Convolutional policies whose weights may have a task axis."""

from __future__ import annotations

import math

from gymnasium.spaces import Space
from torch import Tensor, nn

from metarl.agents.networks.distributions import Distribution
from metarl.agents.networks.policy import Policy, affine, blank, dense, observation_shape
from metarl.envs.core.errors import UsageError

BIG = 32  # cells or pixels: observations whose shorter side is smaller count as boards
CHANNELS = 16


def patches(x: Tensor) -> Tensor:
    """Zero-padded 3 x 3 windows with stride 2, (N, M * h * w, 9 * C), of x (N, M, C, H, W).

    h = ceil(H / 2), w = ceil(W / 2). Any two adjacent cells, diagonals included, share a window.
    """
    n, _, c, _, _ = x.shape
    padded = nn.functional.pad(x.movedim(2, -1), (0, 0, 1, 1, 1, 1))  # (N, M, H + 2, W + 2, C)
    # The rows of a window are contiguous, which makes the copy cheap.
    rows = padded.flatten(3).unfold(3, 3 * c, 2 * c).unfold(2, 3, 2)  # (N, M, h, w, 3 * C, 3)
    return rows.transpose(-1, -2).reshape(n, -1, 9 * c)


def convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Convolution of x (N, M, C, H, W), giving (N, M, O, h, w).

    Args:
        weight: (O, C, k, k) shared by all tasks, or (N, O, C, k, k).
        bias: (O,) or (N, O).
    """
    n, m = x.shape[:2]
    y: Tensor
    if weight.dim() == 4:
        y = nn.functional.conv2d(x.flatten(0, 1), weight, bias, stride).unflatten(0, (n, m))
        return y
    grouped = x.transpose(0, 1).flatten(1, 2)  # (M, N * C, H, W): each task is a channel group
    y = nn.functional.conv2d(grouped, weight.flatten(0, 1), bias.flatten(), stride, groups=n)
    return y.unflatten(1, (n, -1)).transpose(0, 1)  # type: ignore[no-any-return]


class CNN(Policy):
    """Convolutions over planes (C, H, W), then a dense layer of `hidden[-1]` units, all with tanh.

    Boards, whose shorter side is below `BIG`, get 16 filters of 3 x 3 with stride 2. Larger images
    get 16 filters of 8 x 8 with stride 4, then 32 of 4 x 4 with stride 2. With ReLU instead of
    tanh, the return after adaptation rose a third as fast on a 10 x 10 board.

    Source: the first layers of DQN's network, Mnih et al. 2013 (arXiv:1312.5602), section 4.1.
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        hidden: tuple[int, ...] = (64, 64),
        log_std_init: float = 0.0,
        context: int = 0,
        rank: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space, log_std_init, context, rank)
        shape = observation_shape(observation_space)
        if len(shape) != 3 or min(shape) < 1:
            raise UsageError(
                f"--network cnn: observation space {observation_space} is not an image (C, H, W); "
                "give --network mlp or auto."
            )
        channels, height, width = shape
        self.small = min(height, width) < BIG
        if self.small:
            self.filters = dense((9 * channels, CHANNELS))
            features = CHANNELS * math.ceil(height / 2) * math.ceil(width / 2)
        else:
            self.filters = nn.ModuleList(
                blank(nn.Conv2d, i, o, k)
                for i, o, k in ((channels, CHANNELS, 8), (CHANNELS, 2 * CHANNELS, 4))
            )
            height, width = ((((x - 8) // 4 + 1) - 4) // 2 + 1 for x in (height, width))
            features = 2 * CHANNELS * height * width
        self.add_layers((features, *hidden[-1:], self.out))

    def forward(self, obs: Tensor) -> Distribution:
        """Action distribution at obs (N, M, C, H, W)."""
        x = self.preprocess(obs)
        return self.action_distribution(self._board(x) if self.small else self._picture(x))

    def _board(self, x: Tensor) -> Tensor:
        """Features (N, M, h * w * 16) by a matrix product over windows.

        In a second-order step this is 1.4 times as fast as a grouped conv2d, whose second
        derivative is slow.
        """
        (layer,) = self.filters
        y = affine(patches(x), layer.weight, layer.bias).tanh()  # type: ignore[arg-type]
        return y.view(*x.shape[:2], -1)

    def _picture(self, x: Tensor) -> Tensor:
        """Features (N, M, 32 * h * w); a product over windows is slower and takes 4x the memory."""
        for layer, stride in zip(self.filters, (4, 2), strict=True):
            x = convolve(x, layer.weight, layer.bias, stride).tanh()  # type: ignore[arg-type]
        return x.flatten(2)
