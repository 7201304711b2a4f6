"""Games, one file per family."""
