"""Preprocessing for Atari, MiniGrid and Meta-World."""
