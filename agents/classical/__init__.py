"""Classical rules for bandits and MDPs, and what they score."""
