"""`torch.compile` of the few functions that a meta-iteration's time goes to, where it is asked for.

Each is a pure function of fixed shapes, so that one compilation serves a whole run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch
import torch._dynamo  # its settings

P = ParamSpec("P")
R = TypeVar("R")

STEPS = 5  # of an episode in one program: twice as many take a sixth less time, but twice to compile
LIMIT = 64  # shapes of one function: rollouts and chunks of tasks may have several each
FAILURES = (torch._dynamo.exc.TorchDynamoException,)  # no compiler, or code that can't be traced

_on = False


@contextmanager
def compiling(on: bool = True) -> Iterator[None]:
    """Within it, functions that were marked by `may_compile` are compiled at their first call."""
    global _on
    # With `trace_autograd_ops` an inner gradient becomes a part of the program like all the rest.
    settings = {"trace_autograd_ops": True, "recompile_limit": LIMIT} if on else {}
    before, _on = _on, on
    try:
        with torch._dynamo.config.patch(settings), warnings.catch_warnings():
            # Constant tables are kept by `lru_cache`, which programs need not know.
            warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
            yield
    finally:
        _on = before


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
