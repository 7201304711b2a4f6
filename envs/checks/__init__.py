"""Checks of the contract of families."""
