"""How Atari, MiniGrid and Meta-World are shown to an agent."""
