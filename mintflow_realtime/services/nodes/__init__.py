"""What all nodes know together: who is connected, and what became of an event."""
