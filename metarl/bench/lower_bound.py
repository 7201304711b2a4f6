"""What no meta-iteration can do without, timed by itself at the same shapes.

Matrix products and activations of all forward, backward and second-order passes, the noise, and the
steps of the worlds; without biases, losses, advantages, copies, and the bookkeeping between.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from metarl.agents.learners.gradient_agent import Agent
from metarl.config.settings import TrainConfig
from metarl.envs import Family, sample_tasks, simulate
from metarl.evaluation.scripted_policies import random_actions

tanh_backward = torch.ops.aten.tanh_backward


class Passes:
    """Passes over M rows of each of N tasks through tanh layers of these sizes.

    Layer l has x (N, M, I), weight (N, O, I), and the slope g (N, M, O) of its output.
    """

    def __init__(self, n: int, rows: int, sizes: list[int], device: torch.device) -> None:
        make: dict[str, Any] = {"device": device}
        self.x = [torch.rand(n, rows, size, **make) for size in sizes]
        self.g = [torch.rand(n, rows, size, **make) for size in sizes[1:]]
        self.weight = [torch.rand(n, o, i, **make) for i, o in pairwise(sizes)]
        self.grad = [torch.empty_like(w) for w in self.weight]

    def forward(self) -> None:
        """A product and an activation in each layer; the last has no activation."""
        for i, w in enumerate(self.weight):
            torch.bmm(self.x[i], w.mT, out=self.x[i + 1])
            if i + 1 < len(self.weight):
                torch.tanh(self.x[i + 1], out=self.x[i + 1])

    def backward(self) -> None:
        """The slopes of weights, and of what came in."""
        for i in reversed(range(len(self.weight))):
            torch.bmm(self.g[i].mT, self.x[i], out=self.grad[i])
            if i:
                torch.bmm(self.g[i], self.weight[i], out=self.g[i - 1])
                self._tanh_backward(i)

    def jvp(self) -> None:
        """How outputs move with the weights: x dW and, from the second layer on, dx W."""
        for i, w in enumerate(self.weight):
            for _ in range(2 if i else 1):
                torch.bmm(self.x[i], w.mT, out=self.x[i + 1])
            if i + 1 < len(self.weight):
                self._tanh_backward(i + 1)

    def hvp(self) -> None:
        """How the slopes of `backward` move with the weights: two products for each of there."""
        for i in reversed(range(len(self.weight))):
            for _ in range(2 if i else 1):
                torch.bmm(self.g[i].mT, self.x[i], out=self.grad[i])
            if i:
                for _ in range(2):  # the slope's own change, and the activation's curvature
                    torch.bmm(self.g[i], self.weight[i], out=self.g[i - 1])
                    self._tanh_backward(i)

    def _tanh_backward(self, i: int) -> None:
        tanh_backward.grad_input(self.g[i - 1], self.x[i], grad_input=self.g[i - 1])


def lower_bound(
    cfg: TrainConfig, family: Family, agent: Agent, repeats: int, device: torch.device
) -> dict[str, float]:
    """Seconds of each phase of a meta-iteration with one inner step."""
    weights = [w for k, w in agent.params.items() if k.startswith("layers.") and w.dim() == 2]
    sizes = [weights[0].shape[1], *(len(w) for w in weights)]
    n = min(cfg.tasks, cfg.task_chunk)  # at a time
    own = Passes(n, cfg.episodes * family.horizon, sizes, device)
    names = ("forward", "backward", "jvp", "hvp")
    t = {k: _median(getattr(own, k), repeats, device) for k in names}
    gradient = t["forward"] + t["backward"]
    second = t["jvp"] + t["hvp"]
    seconds = {
        "rollout": _rollout(family, n, cfg.episodes, sizes, True, repeats, device),
        "inner": gradient,
        "rollout after": _rollout(family, n, cfg.episodes, sizes, False, repeats, device),
        "outer": cfg.epochs * (gradient + second) + (cfg.epochs - 1) * gradient,
    }
    if cfg.outer == "trpo":
        seconds["outer"] = gradient + second
        product = 2 * second + t["jvp"] + t["backward"]
        seconds["conjugate gradient"] = cfg.cg_steps * cfg.curvature_share * product
        seconds["line search"] = gradient + t["forward"]  # if the first length is taken
    return {k: cfg.tasks / n * v for k, v in seconds.items()}


def _rollout(
    family: Family,
    n: int,
    b: int,
    sizes: list[int],
    shared: bool,
    repeats: int,
    device: torch.device,
) -> float:
    """Noise, and at each step the policy's passes and the world's."""
    horizon = family.horizon
    step = Passes(1, n * b, sizes, device) if shared else Passes(n, b, sizes, device)
    gen = torch.Generator(device).manual_seed(0)
    task = sample_tasks(family, n, gen, device=device)
    acts = random_actions(family.action_space, (horizon, n, b), gen)

    def play() -> None:
        simulator = simulate(family, task, b, gen)
        simulator.reset()
        torch.randn(horizon, n, b, sizes[-1], generator=gen, device=device)
        for act in acts:
            step.forward()
            simulator.step(act)

    return _median(play, max(3, repeats // 4), device)


def _median(run: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """Seconds of a call."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])
