"""Any Gymnasium environment as a family: parameters, spaces, worker processes."""
