"""Makes the policy network that a setting names."""

from __future__ import annotations

from metarl.agents.networks.cnn import CNN
from metarl.agents.networks.module_policy import ModulePolicy, find_network
from metarl.agents.networks.policy import MLP, Policy
from metarl.envs import Family, UsageError

BUILT_IN = {"mlp": MLP, "cnn": CNN}


def make_policy(
    family: Family,
    network: str,
    hidden: tuple[int, ...],
    log_std_init: float,
    context: int = 0,
    rank: int = 0,
) -> Policy:
    """The policy for a family's spaces.

    Args:
        network: `mlp`, `cnn`, `auto` for a CNN if observations are images (C, H, W) of at least
            8 x 8, or `module:NAME` for a custom module.

    Raises:
        UsageError: unknown network, or it doesn't support the spaces.
    """
    spaces = family.observation_space, family.action_space
    if ":" in network:
        if context or rank:
            raise UsageError(
                f"--network {network}: a custom network has neither a context nor adapters; give "
                "--fast all, head or body."
            )
        return ModulePolicy(*spaces, find_network(network), network, log_std_init)
    shape = family.observation_space.shape or ()
    image = len(shape) == 3 and min(shape[1:]) >= 8
    kind = ("cnn" if image else "mlp") if network == "auto" else network
    if kind not in BUILT_IN:
        raise UsageError(
            f"--network {network}: unknown; give auto, mlp, cnn, or your own as module:NAME."
        )
    return BUILT_IN[kind](*spaces, hidden, log_std_init, context, rank)
