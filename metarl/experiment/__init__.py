"""A run: its folder, checkpoints, resuming."""
