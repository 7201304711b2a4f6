"""Comparing groups of runs."""
