"""Families as Gymnasium and Stable-Baselines3 environments."""
