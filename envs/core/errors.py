"""The two kinds of failure that a person is told about in one line."""

from __future__ import annotations


class UsageError(ValueError):
    """What was asked for can't be done; the message names thing, value, allowed, next action."""


class RunError(RuntimeError):
    """Something broke while running; the message says what, where and what to do."""
