"""Collecting episodes, estimating advantages, building batches."""
