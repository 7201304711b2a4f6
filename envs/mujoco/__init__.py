"""MuJoCo families, simulated in C threads; one file per robot."""
