"""The meta-training loop and its initial state."""
