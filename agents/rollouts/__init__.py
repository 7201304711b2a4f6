"""Collecting episodes, advantages, batches."""
