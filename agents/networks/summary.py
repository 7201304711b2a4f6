"""Short descriptions of networks for `repr`."""

from __future__ import annotations

from torch import nn

from metarl.agents.networks.policy import Policy
from metarl.agents.networks.recurrent_policy import MemoryPolicy


def summary(policy: Policy) -> str:
    """A description such as `MLP 2-64-64-2`, or `GRU 64` for a recurrent policy."""
    if isinstance(policy, MemoryPolicy):
        return f"{type(policy.cell).__name__} {policy.critic.in_features}"
    sizes = [(layer.in_features, layer.out_features) for layer in linear_layers(policy)]
    return f"{type(policy).__name__} " + "-".join(map(str, [*(i for i, _ in sizes), policy.out]))


def linear_layers(policy: Policy) -> list[nn.Linear]:
    """The dense layers of a policy."""
    return [layer for layer in policy.layers if isinstance(layer, nn.Linear)]


def hidden_sizes(policy: Policy) -> tuple[int, ...]:
    """Units of each hidden dense layer."""
    return tuple(layer.out_features for layer in linear_layers(policy)[:-1])
