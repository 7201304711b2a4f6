"""`torch.compile` of the few functions that a meta-iteration's time goes to, where it is asked for.

Each is a pure function of fixed shapes, so that one compilation serves a whole run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

STEPS = 5  # of an episode in one program; with 10 it is a sixth faster, and takes twice to compile
LIMIT = 64  # shapes of one function: rollouts and chunks of tasks may have several each

_on = _replays = False


@contextmanager
def compiling(on: bool = True, replays: bool = False) -> Iterator[None]:
    """Within it, functions that were marked by `may_compile` are compiled at their first call.

    Args:
        replays: on a GPU, launch those that allow it at once, as a CUDA graph.
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
    # With `trace_autograd_ops` an inner gradient becomes a part of the program like all the rest.
    patch: AbstractContextManager[None] = config.patch(
        trace_autograd_ops=True, recompile_limit=LIMIT
    )
    return patch


def failures() -> tuple[type[Exception], ...]:
    """What compiling may raise: there is no compiler, or code that can't be traced."""
    from torch._dynamo.exc import TorchDynamoException

    return (TorchDynamoException,)


def is_compiling() -> bool:
    """Whether marked functions are compiled now."""
    return _on


def may_compile(function: Callable[P, R], replay: bool = False) -> Callable[P, R]:
    """Mark a function, which has to be one graph of tensor operations of fixed shapes.

    Args:
        replay: what it gives back is used up before its next call, whose results take its place.
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
