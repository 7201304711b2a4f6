"""Files, signals, the machine."""
