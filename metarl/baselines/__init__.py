"""Baselines without meta-learning, tuned and trained for comparison with an agent."""
