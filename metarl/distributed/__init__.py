"""Training with several processes: collectives and the launcher."""
