"""The oracle: one load, one checker, and faults; it knows the server by its wire alone."""
