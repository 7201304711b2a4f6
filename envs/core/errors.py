"""The two kinds of errors that are reported to the user in one line."""

from __future__ import annotations


class UsageError(ValueError):
    """An invalid request; the message names the thing, its value, what is allowed, what to do."""


class RunError(RuntimeError):
    """A failure at run time; the message says what failed, where, and what to do."""
