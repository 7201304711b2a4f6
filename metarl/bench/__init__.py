"""`metarl bench`: time a meta-iteration by phase and compare it with a lower bound."""
