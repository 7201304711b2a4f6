"""Runs: folder, checkpoints, resuming."""
