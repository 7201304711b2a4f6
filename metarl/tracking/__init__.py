"""Metrics and trackers."""
