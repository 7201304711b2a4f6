"""Several processes: reductions and starting them."""
