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

_on = False


@contextmanager
def compiling(on: bool = True) -> Iterator[None]:
    """Within it, functions that were marked by `may_compile` are compiled at their first call."""
    global _on
    before, _on = _on, on
    try:
        with _settings() if on else nullcontext():
            yield
    finally:
        _on = before


def _settings() -> AbstractContextManager[None]:
    from torch._dynamo import config  # takes more than a second

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


def may_compile(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function, which has to be one graph of tensor operations of fixed shapes."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        chosen = _compiled(function) if _on else function
        return chosen(*args, **kwargs)

    return call


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, fullgraph=True, dynamic=False)
