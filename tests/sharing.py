"""What one process, or two that share a meta-batch, make of the same tasks and the same luck."""

import os
import sys

import torch

import metarl
from metarl.agents.networks import distributions
from metarl.agents.rng import stream
from metarl.config.presets import preset
from metarl.distributed.collectives import init_process_group, shard
from metarl.distributed.launcher import leave
from metarl.envs import make_family, sample_tasks
from metarl.outer import OUTER
from metarl.outer import es as evolution
from metarl.training import new_agent as first_agent
from metarl.training.metrics import measure

SETTINGS = {
    "promp": {"epochs": 2},
    "maml": {},
    "maml-trpo": {},
    "fomaml": {},
    "reptile": {},
    "anil": {},
    "boil": {},
    "cavia": {},
    "meta-sgd": {},
    "maml-dice": {},
    "e-maml": {},
    "es-maml": {},
    "imaml": {"outer": "implicit", "epochs": 1},
    "rl2": {"epochs": 1, "minibatches": 1, "inner_steps": 0},
    "fwp": {"epochs": 1, "minibatches": 1, "inner_steps": 0},
}


def settings(algo):
    small = {"tasks": 5, "episodes": 3, "hidden": (8,), "inner_steps": 1, "multi_step": False}
    name = "maml" if algo == "imaml" else algo
    return preset("point-navigation", name, **{**small, "cg_steps": 3, **SETTINGS[algo]})


def alike(self, horizon, gen=None):
    """Noise that is the same in all tasks, so that it doesn't matter which rank draws it."""
    n, *rest = self.mean.shape
    noise = torch.randn(horizon, 1, *rest, generator=torch.Generator().manual_seed(3))
    return noise.expand(horizon, n, *rest) * self.log_std.detach().exp()


def directions(weight, n, gen):
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(4))
    return noise.expand(n, *weight.shape)


def updates():
    """One outer update of every algorithm: what it moves, remembers and measures."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    first_agent.probe = lambda family: None  # it wants float32
    distributions.Gaussian.noise = alike
    evolution.directions = directions
    found = {}
    for algo in SETTINGS:
        cfg = settings(algo)
        family = make_family(cfg.family)
        agent = metarl.new_agent(cfg, family)
        task = sample_tasks(family, cfg.tasks, stream(0, "tasks"))
        gen = stream(0, "episodes")
        args = shard(task), gen, lambda phase: None
        update = OUTER[cfg.outer](cfg, agent, {}, family, *args)
        found[algo] = {**update.weights, **update.opt}, measure(update)
    return found


def main(file):
    with init_process_group(torch.device("cpu"), 60.0):
        found = updates()
    if os.environ.get("RANK", "0") == "0":
        torch.save(found, file)
    leave(0)


if __name__ == "__main__":
    main(sys.argv[1])
