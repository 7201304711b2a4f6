"""Agents that adapt: by gradient, or in the state of a memory."""
