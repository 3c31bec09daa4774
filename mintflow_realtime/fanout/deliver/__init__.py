"""From what a node has received to the sockets of its clients."""
