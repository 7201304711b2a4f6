"""What is checked of an environment before training."""
