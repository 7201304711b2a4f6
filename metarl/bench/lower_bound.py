"""A lower bound of the time of a meta-iteration, measured at the same shapes.

It contains the matrix products and activations of all forward, backward and second-order passes,
the noise, and the simulators' steps, but no biases, losses, advantages, copies or bookkeeping.
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

    Layer l has input x (N, M, I), weight (N, O, I), and output gradient g (N, M, O).
    """

    def __init__(self, n: int, rows: int, sizes: list[int], device: torch.device) -> None:
        make: dict[str, Any] = {"device": device}
        self.x = [torch.rand(n, rows, size, **make) for size in sizes]
        self.g = [torch.rand(n, rows, size, **make) for size in sizes[1:]]
        self.weight = [torch.rand(n, o, i, **make) for i, o in pairwise(sizes)]
        self.grad = [torch.empty_like(w) for w in self.weight]

    def forward(self) -> None:
        """A product and an activation in each layer, except no activation in the last."""
        for i, w in enumerate(self.weight):
            torch.bmm(self.x[i], w.mT, out=self.x[i + 1])
            if i + 1 < len(self.weight):
                torch.tanh(self.x[i + 1], out=self.x[i + 1])

    def backward(self) -> None:
        """Gradients of weights and inputs."""
        for i in reversed(range(len(self.weight))):
            torch.bmm(self.g[i].mT, self.x[i], out=self.grad[i])
            if i:
                torch.bmm(self.g[i], self.weight[i], out=self.g[i - 1])
                self._tanh_backward(i)

    def jvp(self) -> None:
        """Jacobian-vector product: x dW and, from the second layer on, dx W."""
        for i, w in enumerate(self.weight):
            for _ in range(2 if i else 1):
                torch.bmm(self.x[i], w.mT, out=self.x[i + 1])
            if i + 1 < len(self.weight):
                self._tanh_backward(i + 1)

    def hvp(self) -> None:
        """Hessian-vector product: two products for each product of `backward`."""
        for i in reversed(range(len(self.weight))):
            for _ in range(2 if i else 1):
                torch.bmm(self.g[i].mT, self.x[i], out=self.grad[i])
            if i:
                for _ in range(2):  # change of the gradient, and second derivative of tanh
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
    n = min(cfg.tasks, cfg.task_chunk)  # in one chunk
    passes = Passes(n, cfg.episodes * family.horizon, sizes, device)
    names = ("forward", "backward", "jvp", "hvp")
    t = {k: _median(getattr(passes, k), repeats, device) for k in names}
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
        seconds["line search"] = gradient + t["forward"]  # if the first step length is accepted
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
    """Seconds of the noise, the policy's forward passes and the simulator's steps."""
    horizon = family.horizon
    step = Passes(1, n * b, sizes, device) if shared else Passes(n, b, sizes, device)
    gen = torch.Generator(device).manual_seed(0)
    task = sample_tasks(family, n, gen, device=device)
    acts = random_actions(family.action_space, (horizon, n, b), gen)

    def roll_out() -> None:
        simulator = simulate(family, task, b, gen)
        simulator.reset()
        torch.randn(horizon, n, b, sizes[-1], generator=gen, device=device)
        for act in acts:
            step.forward()
            simulator.step(act)

    return _median(roll_out, max(3, repeats // 4), device)


def _median(run: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """Median seconds of a call, without the first."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
