"""Plain alternatives to meta-learning, tuned and trained beside an agent."""
