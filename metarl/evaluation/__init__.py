"""Evaluating after adaptation, and the statistics of it."""
