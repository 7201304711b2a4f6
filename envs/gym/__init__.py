"""Any Gymnasium environment: setting parameters, spaces, worker processes."""
