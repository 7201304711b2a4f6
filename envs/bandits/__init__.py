"""Bandits, random MDPs and recommendation, one file per family."""
