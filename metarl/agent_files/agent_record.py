"""An agent as plain data: a JSON record and named tensors, and the agent that they make."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from gymnasium.spaces import Space
from torch import Tensor

from metarl.agent_files.space_record import BOUNDS, bounds_of, make_space, space_record, stand_in
from metarl.agents.learners.gradient_agent import Agent, InnerRule
from metarl.agents.learners.recurrent_agent import AnyAgent, Memory, MemoryAgent
from metarl.agents.networks.cnn import CNN
from metarl.agents.networks.policy import MLP, Policy
from metarl.agents.networks.recurrent_cells import CELLS
from metarl.agents.networks.recurrent_policy import MemoryPolicy
from metarl.agents.networks.summary import hidden_sizes
from metarl.agents.rollouts.learned_baseline import FEATURES
from metarl.config.settings import TrainConfig
from metarl.envs import UsageError
from metarl.experiment.checkpoint_contents import Kind
from metarl.outer.train_state import named_weights

SPACES = ("observation_space", "action_space")
NORMALIZATION = ("obs_mean", "obs_scale", "rew_scale")  # buffers of a policy
FEEDFORWARD: dict[str, type[MLP | CNN]] = {"mlp": MLP, "cnn": CNN}
# Fields of the inner rule that a setting of a run bounds; `per_step` is told by the step sizes.
SETTINGS = {
    **{name: name for name in ("gamma", "gae_lambda", "baseline", "estimator", "dice_lambda")},
    **{name: f"inner_{name}" for name in ("entropy", "max_norm", "iterations")},
}
VALUE = ("weight", "bias")
LAYERS = 100
MOST = 2**31  # tasks, trials or steps


def to_record(agent: AnyAgent) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """All that the agent needs to act and to adapt again.

    Raises:
        UsageError: it has a network or a space that no file can describe.
    """
    policy = agent.policy
    record: dict[str, Any] = {"network": _network(policy)}
    tensors = dict(named_weights(agent))
    for name, space in zip(SPACES, policy.spaces, strict=True):
        record[name], bounds = space_record(space)
        tensors |= {f"{name}/{k}": x for k, x in bounds.items()}
    found = {k: getattr(policy, k) for k in NORMALIZATION}
    record["normalization"] = [k for k, x in found.items() if x is not None]
    tensors |= {f"normalization/{k}": found[k] for k in record["normalization"]}
    if isinstance(agent, MemoryAgent):
        memory = agent.memory
        record |= {"kind": "memory", "trials": list(memory.rew.shape) if memory else []}
        tensors |= {f"memory/{k}": x for k, x in (memory._asdict() if memory else {}).items()}
    else:
        rule = dataclasses.asdict(agent.rule)
        shapes = {k: list(x.shape) for k, x in agent.inner_lr.items()}
        tasks = agent.tasks if agent.adapted else 0
        record |= {"kind": "gradient", "rule": rule, "steps": agent.steps}
        record |= {"inner_lr": shapes, "tasks": tasks}
    return record, tensors


def _network(policy: Policy) -> dict[str, Any]:
    if type(policy) is MemoryPolicy:
        (kind,) = [name for name, cell in CELLS.items() if type(policy.cell) is cell]
        return {"kind": kind, "hidden": [policy.critic.in_features]}
    for name, network in FEEDFORWARD.items():
        if type(policy) is network:
            hidden = list(hidden_sizes(policy))
            return {
                "kind": name,
                "hidden": hidden,
                "context": policy.context_size,
                "rank": policy.rank,
            }
    raise UsageError(
        f"{type(policy).__name__} is a network that an agent's file can't describe: save the run's "
        "folder, or use MLP, CNN or MemoryPolicy."
    )


def expected(record: dict[str, Any]) -> dict[str, Kind]:
    """Every tensor that a record needs; their memory is not taken yet.

    Raises:
        UsageError: the record is of no agent, or of one with settings that no run can have.
        KeyError, TypeError, AttributeError: likewise.
    """
    want: dict[str, Kind] = {}
    for name in SPACES:
        if bounds := bounds_of(record[name]):
            want |= {f"{name}/{k}": Kind(bounds.shape, bounds.dtype) for k in BOUNDS}
    seen, acts = (stand_in(record[name]) for name in SPACES)
    with torch.device("meta"):
        policy = _policy(record, seen, acts)
    shapes = {k: tuple(p.shape) for k, p in policy.named_parameters()}
    if isinstance(policy, MemoryPolicy):
        want |= {f"params/{k}": Kind(shape, torch.float32) for k, shape in shapes.items()}
        want |= _memory(record["trials"], policy)
    else:
        want |= _weights(record, shapes, math.prod(seen.shape or ()))
    for name in record["normalization"]:
        if name not in NORMALIZATION:
            raise UsageError(f"normalization of {str(name)[:80]} is unknown")
        shape = () if name == "rew_scale" else tuple(seen.shape or ())
        want[f"normalization/{name}"] = Kind(shape, torch.float32, positive="scale" in name)
    return want


def from_record(record: dict[str, Any], tensors: dict[str, Tensor]) -> AnyAgent:
    """The agent of a record, from tensors that are as `expected`."""
    spaces = [
        make_space(
            record[name], {k: tensors[f"{name}/{k}"] for k in BOUNDS if f"{name}/{k}" in tensors}
        )
        for name in SPACES
    ]
    policy = _policy(record, *spaces)
    for name in record["normalization"]:
        setattr(policy, name, tensors[f"normalization/{name}"])
    params = {k: tensors[f"params/{k}"] for k, _ in policy.named_parameters()}
    if isinstance(policy, MemoryPolicy):
        memory = None
        if record["trials"]:
            memory = Memory(*(tensors[f"memory/{k}"] for k in Memory._fields))
        return MemoryAgent(policy, params, memory)
    # In the order of the agent: the sum in a gradient's norm depends on it.
    inner_lr = {k: tensors[f"inner_lr/{k}"] for k in record["inner_lr"]}
    value = {k: tensors[f"value/{k}"] for k in VALUE if f"value/{k}" in tensors}
    return Agent(policy, params, inner_lr, InnerRule(**record["rule"]), value, record["steps"])


def _policy(record: dict[str, Any], seen: Space[Any], acts: Space[Any]) -> Policy:
    """The network, its weights blank; UsageError for settings that no run can have."""
    network = record["network"]
    kind, hidden = network["kind"], tuple(network["hidden"])
    if len(hidden) > LAYERS:
        raise UsageError(f"{len(hidden)} hidden layers, {LAYERS} at most can be read")
    if record["kind"] == "memory":
        TrainConfig(memory=kind, hidden=hidden)
        (units,) = hidden
        return MemoryPolicy(seen, acts, kind, units)
    if record["kind"] != "gradient":
        raise UsageError(f"an agent of kind {str(record['kind'])[:80]} is unknown")
    sizes = {name: network[name] for name in ("context", "rank")}
    TrainConfig(network=kind, hidden=hidden, **{k: n for k, n in sizes.items() if n != 0})
    return FEEDFORWARD[kind](seen, acts, hidden, **sizes)


def _memory(trials: Any, policy: MemoryPolicy) -> dict[str, Kind]:
    """What is remembered of the trials under way, `[tasks, trials of each]` or none."""
    if not trials:
        return {}
    tasks, each = map(_count, trials)
    shapes = {"state": policy.cell.state_shape, "act": (policy.out,), "rew": ()}
    return {
        f"memory/{k}": Kind((tasks, each, *shape), torch.float32) for k, shape in shapes.items()
    }


def _weights(
    record: dict[str, Any], shapes: dict[str, tuple[int, ...]], seen: int
) -> dict[str, Kind]:
    """Weights, step sizes and baseline of an agent that adapts by gradient.

    Args:
        shapes: of each slow weight.
        seen: numbers in an observation.
    """
    rule, fast, tasks = record["rule"], record["inner_lr"], _count(record["tasks"])
    _count(record["steps"])
    if (
        set(rule) != {f.name for f in dataclasses.fields(InnerRule)}
        or set(fast) - set(shapes)
        or type(rule["per_step"]) is not bool
    ):
        raise UsageError("its inner rule lacks something, or has more than there is")
    TrainConfig(**{setting: rule[name] for name, setting in SETTINGS.items()})
    kinds = {}
    for k, shape in shapes.items():
        lead = (tasks,) if tasks and k in fast else ()
        kinds[f"params/{k}"] = Kind((*lead, *shape), torch.float32)
    for k, size in fast.items():
        steps = (_count(size[0]),) if rule["per_step"] else ()
        if tuple(size) not in (steps, (*steps, *shapes[k])) or steps == (0,):
            raise UsageError(f"its step size of {k} has shape {str(size)[:80]}")
        kinds[f"inner_lr/{k}"] = Kind(tuple(size), torch.float32)
    if rule["baseline"] == "learned":
        kinds["value/weight"] = Kind((FEATURES, seen), torch.float32)
        kinds["value/bias"] = Kind((FEATURES,), torch.float32)
    return kinds


def _count(n: Any) -> int:
    if type(n) is not int or not 0 <= n < MOST:
        raise UsageError(f"it counts {str(n)[:80]}")
    return n
