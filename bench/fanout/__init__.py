"""Two nodes and a Redis: what a publish on one costs, and its deliveries on the other."""
