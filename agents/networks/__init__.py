"""Policies, action distributions, recurrent cells, observation statistics."""
