"""Checks of the rules that every family keeps."""
