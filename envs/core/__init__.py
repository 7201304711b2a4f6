"""The definition of a family: parameters, splits, tasks, the simulator protocol, errors."""
