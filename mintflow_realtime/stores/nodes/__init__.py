"""Which nodes there are, and what they are asked."""
