"""From one publish to every subscriber on every node: rooms, publisher, event log, listener, manager."""
