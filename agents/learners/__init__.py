"""Agents that adapt: by gradient steps, or in the hidden state of a recurrent policy."""
