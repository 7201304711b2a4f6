"""The meta-training loop, and what it starts from."""
