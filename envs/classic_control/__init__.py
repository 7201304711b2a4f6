"""Classic control, one file per family."""
