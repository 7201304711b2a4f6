"""`metarl bench`: how long a meta-iteration takes, where it goes, and what it can't do without."""
