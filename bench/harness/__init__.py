"""Starting servers and the load generator, reading what they cost, and printing it."""
