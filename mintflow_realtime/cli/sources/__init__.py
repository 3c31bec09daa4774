"""Where `tail` and `watch` read: Redis, as an operator who has its URL, or a server, as any client."""
