"""An agent in one file, without its run."""
