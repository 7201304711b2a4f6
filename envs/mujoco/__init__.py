"""MuJoCo, stepped in C threads; one file per robot."""
