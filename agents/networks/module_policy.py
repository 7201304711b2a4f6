"""Any `torch.nn.Module` as a policy whose weights may have a task axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gymnasium.spaces import Space
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from metarl.agents.networks.distributions import Distribution
from metarl.agents.networks.policy import Params, Policy
from metarl.envs.core.errors import UsageError
from metarl.envs.core.user_code import import_user_code

# (observation space, number of distribution parameters) -> module
MakeModule = Callable[[Space[Any], int], nn.Module]

# Layers whose output depends on the rest of the batch, or on unseeded noise.
UNFIT = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


class ModulePolicy(Policy):
    """Wraps a module from observations (M, *obs) to distribution parameters (M, out).

    Weights with a task axis are handled by `torch.vmap`, so the module need not support tasks. Its
    initial weights are drawn by its constructor, from the seed of the run.

    Raises:
        UsageError: the module fails, returns another shape, has layers that mix observations (such
            as batch normalization), or has no weights.
    """

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Space[Any],
        make: MakeModule,
        name: str,
        log_std_init: float = 0.0,
    ) -> None:
        super().__init__(observation_space, action_space, log_std_init)
        self._make, self._name = make, name
        self.body = self._fresh(0)
        self._dims = {k: p.dim() for k, p in self.body.named_parameters()}
        self._check()

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return next(self.body.parameters()).dtype

    @property
    def last_layer(self) -> str:
        """Prefix of the names of the last layer's weights."""
        *_, last = self._dims
        *layer, _ = last.split(".")
        return ".".join(["body", *layer, ""])

    def forward(self, obs: Tensor) -> Distribution:
        """Action distribution at obs (N, M, *obs)."""
        x, weights = self.preprocess(obs), dict(self.body.named_parameters())
        axes = {k: 0 if p.dim() > self._dims[k] else None for k, p in weights.items()}
        # Fused attention has no second derivative.
        with sdpa_kernel(SDPBackend.MATH):
            if not any(axis == 0 for axis in axes.values()):
                return self.head(self.body(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
            one = vmap(lambda p, o: functional_call(self.body, p, (o,)), in_dims=(axes, 0))
            return self.head(one(weights, x))

    def initial(self, gen: torch.Generator | None = None) -> Params:
        """Initial weights of a new module, with a seed drawn from `gen`."""
        seed = int(torch.randint(2**62, (), generator=gen))
        params = {f"body.{k}": p.detach() for k, p in self._fresh(seed).named_parameters()}
        if hasattr(self, "log_std"):
            params["log_std"] = self.log_std.detach().clone()
        return {k: params[k] for k, _ in self.named_parameters()}

    def _fresh(self, seed: int) -> nn.Module:
        """Make a new module without advancing torch's global generator."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                module: Any = self._make(self.spaces[0], self.out)
            except Exception as error:
                raise UsageError(self._failed("can't be made", error)) from error
        if not isinstance(module, nn.Module) or not list(module.parameters()):
            raise UsageError(
                f"--network {self._name} gives {type(module).__name__}: give a torch.nn.Module "
                "with weights, or a function that returns one."
            )
        return module

    def _check(self) -> None:
        """Raise UsageError unless the module works with and without a task axis."""
        for name, layer in self.body.named_modules():
            if isinstance(layer, UNFIT):
                raise UsageError(
                    f"--network {self._name}: {name} is {type(layer).__name__}, which mixes "
                    "observations or draws noise; leave it out, or use LayerNorm or GroupNorm."
                )
        shape = self.spaces[0].shape or ()
        obs = torch.zeros(2, 3, *shape, dtype=self.dtype)
        weights: Params = dict(self.body.named_parameters())
        stacked = {k: p.expand(2, *p.shape) for k, p in weights.items()}
        calls = (
            lambda: functional_call(self.body, weights, (obs[0],)),
            lambda: vmap(lambda p, o: functional_call(self.body, p, (o,)))(stacked, obs)[0],
        )
        for call in calls:
            try:
                with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
                    out = call()
            except Exception as error:
                raise UsageError(self._failed("fails", error)) from error
            if not isinstance(out, Tensor) or out.shape != (3, self.out):
                got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
                raise UsageError(self._failed(f"gives {got} for 3 observations", None))

    def _failed(self, what: str, error: Exception | None) -> str:
        if error:
            what += f" ({type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]})"
        batch = ", ".join(map(str, ("M", *(self.spaces[0].shape or ()))))
        return (
            f"--network {self._name} {what}: make it with (observation_space, {self.out}), so that "
            f"it maps observations ({batch}) to numbers (M, {self.out})."
        )


def find_network(name: str) -> MakeModule:
    """Import the class or function `module:NAME`.

    Raises:
        UsageError: it doesn't exist, or isn't callable.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = import_user_code(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # importing user code may raise anything
        raise UsageError(
            f"--network {name}: {type(error).__name__}: {error}: give module:NAME of a "
            "torch.nn.Module class or a function in the working folder or an installed package."
        ) from error
    if not callable(found):
        raise UsageError(f"--network {name} can't be called: give a class or function.")
    return found  # type: ignore[no-any-return]
