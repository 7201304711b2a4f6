"""What a family is: parameters, splits, tasks, the simulator protocol, errors."""
