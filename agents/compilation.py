"""Optional `torch.compile` of the few functions that dominate the time of a meta-iteration.

Each is a pure function of fixed shapes, so one compilation serves a whole run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

STEPS = 5  # environment steps per graph; 10 runs 1/6 faster but doubles the compile time
LIMIT = 64  # recompilations per function: rollouts and task chunks may each have several shapes

_on = _replays = False


@contextmanager
def compiling(on: bool = True, replays: bool = False) -> Iterator[None]:
    """Compile functions marked with `may_compile` at their first call inside this context.

    Args:
        replays: on a GPU, launch functions marked `replay` as CUDA graphs.
    """
    global _on, _replays
    before, _on, _replays = (_on, _replays), on, replays
    try:
        with _settings() if on else nullcontext():
            yield
    finally:
        _on, _replays = before


def _settings() -> AbstractContextManager[None]:
    from torch._dynamo import config, exc  # takes more than a second

    if not hasattr(config, "trace_autograd_ops"):
        raise exc.TorchDynamoException(f"torch {torch.__version__} can't trace an inner gradient")
    # `trace_autograd_ops` makes the inner gradient part of the compiled graph.
    patch: AbstractContextManager[None] = config.patch(
        trace_autograd_ops=True, recompile_limit=LIMIT
    )
    return patch


def failures() -> tuple[type[Exception], ...]:
    """Exceptions that compiling may raise: no compiler is installed, or code can't be traced."""
    from torch._dynamo.exc import TorchDynamoException

    return (TorchDynamoException,)


def is_compiling() -> bool:
    """Whether functions marked with `may_compile` are currently compiled."""
    return _on


def may_compile(function: Callable[P, R], replay: bool = False) -> Callable[P, R]:
    """Mark a function for compilation; it must be one graph of fixed-shape tensor operations.

    Args:
        replay: allow CUDA graphs. Callers must use the result before the next call, which
            overwrites it.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        chosen = _compiled(function, replay and _replays) if _on else function
        return chosen(*args, **kwargs)

    return call


@cache
def _compiled(function: Callable[..., Any], replay: bool) -> Callable[..., Any]:
    mode = "reduce-overhead" if replay else None
    return torch.compile(function, fullgraph=True, dynamic=False, mode=mode)
