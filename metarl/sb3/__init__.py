"""To and from Stable-Baselines3."""
