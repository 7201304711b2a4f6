"""`python tests/device_check.py DEVICE [--small]`: what a device computes, against the CPU.

The same episodes, moved to the device, must give the same meta-gradient and the same next weights;
training there must raise the return after adaptation. Prints a line for each check.
"""

import argparse

import torch

from metarl.agents.learners.recurrent_agent import MemoryAgent
from metarl.agents.rng import stream
from metarl.config.presets import preset
from metarl.envs import make_family, sample_tasks
from metarl.outer.inner_loop import collect_and_adapt
from metarl.outer.meta_objective import meta_gradient
from metarl.outer.train_state import TrainState, named_weights, with_weights
from metarl.outer.update import trained_weights
from metarl.training.meta_train import meta_train, new_agent

SMALL = {"tasks": 3, "episodes": 3}
FAMILIES = ("point-navigation", "cartpole", "forager")
TRAINED = (("point-navigation", "promp"), ("cartpole", "maml-trpo"), ("bandit", "rl2"))


def to(data, device):
    """Tensors in dicts, lists and tuples, on another device."""
    if isinstance(data, torch.Tensor):
        return data.to(device)
    if isinstance(data, dict):
        return {k: to(x, device) for k, x in data.items()}
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(to(x, device) for x in data))
    return type(data)(to(x, device) for x in data) if isinstance(data, list | tuple) else data


def gradient(cfg, agent, data):
    """Meta-gradient after adapting anew to the episodes of `data`."""
    weights = trained_weights(cfg, agent)
    return meta_gradient(cfg, with_weights(agent, weights), weights, data, first=False)[1]


def check_gradient(name, device, more):
    """Greatest difference of the meta-gradient, relative to its norm."""
    cfg, family = preset(name, **{**SMALL, **more}), make_family(name)
    agent = new_agent(cfg, family)
    task = sample_tasks(family, cfg.tasks, stream(0, "tasks", 0))
    data = collect_and_adapt(cfg, agent, family, task, stream(0, "episodes", 0))
    data = data._replace(path=[])
    here = gradient(cfg, agent, data)
    there = gradient(cfg, agent.to(device), to(data, device))
    norm = torch.stack([g.norm() for g in here.values()]).norm()
    return max(((there[k].cpu() - g).abs().max() / norm).item() for k, g in here.items())


def check_training(name, algo, device, iterations, more):
    """Mean return after adaptation in the first and the last fifth of the iterations."""
    cfg = preset(name, algo, iterations=iterations, **more)
    family = make_family(name)
    first = new_agent(cfg, family, device)
    key = "train/return_after"
    got = [state.metrics[key] for state in meta_train(cfg, family, TrainState(first))]
    part = max(len(got) // 5, 1)
    assert all(w.device.type == torch.device(device).type for w in named_weights(first).values())
    kind = "memory" if isinstance(first, MemoryAgent) else "gradient"
    return kind, sum(got[:part]) / part, sum(got[-part:]) / part


def main():
    """Run all checks; exit code 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("device")
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    wrong = 0
    for name in FAMILIES:
        far = check_gradient(name, asked.device, {})
        wrong += far > 1e-3
        print(f"meta-gradient of {name}: {far:.1e} of its norm away from the CPU's")
    more = {"tasks": 4, "episodes": 4} if asked.small else {}
    for name, algo in TRAINED:
        iterations = 2 if asked.small else 40
        kind, before, after = check_training(name, algo, asked.device, iterations, more)
        wrong += not asked.small and not after > before
        print(f"{algo} in {name} ({kind}): return after adaptation {before:.2f} -> {after:.2f}")
    print("all agree" if not wrong else f"{wrong} checks failed")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
